#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "methods/method.h"
#include "model/config.h"
#include "model/select.h"
#include "model/weights.h"
#include "ops/device.h"

namespace fastkv {

/// What a model is and what was loaded; shared by all sequences.
struct Model {
  ModelConfig config;
  Weights weights;

  ModelShape shape() const {
    return {config.layers, config.hidden_size, config.query_heads, config.kv_heads};
  }
};

/// New tokens of one sequence: a prompt or a continuation.
struct Input {
  SequenceCache& cache;
  std::span<const std::int32_t> ids;  // at least one
};

/// What is told about a layer of a prefill when it is done.
struct LayerReport {
  LayerContext at;
  const Selection& selection;
  View positions;  // (n) int32 of the tokens that entered the layer
};

/// A caller's ears. Either may be empty.
struct ForwardHooks {
  std::function<void(const LayerReport&)> layer_done;  // prefill with a method only
  std::function<void(double)> progress;                // share of the layers that are done
};

/// Bytes that a prefill takes on a device beside the weights.
struct PrefillBytes {
  std::size_t work = 0;  // hidden states and one layer's buffers, given back at its end
  std::size_t kept = 0;  // the pages of what every layer keeps
};
PrefillBytes prefill_bytes(const ModelConfig& config, const Device& device,
                           const PageLayout& layout, const Method& method, std::int64_t tokens);

/// What the last token of a prompt comes to.
struct PromptEnd {
  Tensor hidden;  // (1, H) float32, after the final norm
  Tensor logits;  // (1, V) float32
};

/// The model, layer by layer, over the new tokens of one sequence. Each layer's keys and values are
/// appended to the cache. With a method the cache must be empty: the prompt is compressed layer by
/// layer, so that only one layer's full keys and values exist at a time.
PromptEnd forward(const Model& model, Device& device, const Input& input, const PageLayout& layout,
                  const Method* method = nullptr, const ForwardHooks& hooks = {});

/// Decoding: one token for each of several sequences, step by step, in one pass over the weights.
/// The buffers stay, and the operations of a step are recorded once and replayed while no cache
/// has moved.
class Decoder {
 public:
  /// At least one cache, none of them empty; they must outlive the decoder.
  Decoder(const Model& model, Device& device, const PageLayout& layout,
          std::vector<SequenceCache*> caches);
  ~Decoder();

  /// The caches' generations: another decoder is needed where sequences differ.
  bool serves(std::span<SequenceCache* const> caches) const;
  /// Feeds one token to each sequence and draws the next ones: the most likely ones where
  /// `settings` is empty. Where memory runs out on the way, the caches are empty afterwards.
  std::vector<std::int32_t> step(std::span<const std::int32_t> ids,
                                 std::span<const DrawSettings> settings = {});
  /// (sequences, V) float32, of the last step.
  const std::shared_ptr<Tensor>& logits() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fastkv
