#pragma once

#include <cstdint>
#include <functional>
#include <span>

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

/// New tokens of one sequence: a prompt, a continuation, or one token of decoding.
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

/// Bytes that a prefill of `tokens` tokens takes on a device beside the weights: hidden states and
/// one layer's buffers, and the entries that every layer keeps.
std::size_t prefill_bytes(const ModelConfig& config, const Device& device, const PageLayout& layout,
                          const Method& method, std::int64_t tokens);

/// The model, layer by layer, over the new tokens of one or more sequences. Each layer's keys and
/// values are appended to the caches. With a method there must be one sequence with an empty cache:
/// its prompt is compressed layer by layer, so that only one layer's full keys and values exist at
/// a time. Returns the logits (sequences, V) float32 of each sequence's last token.
Tensor forward(const Model& model, Device& device, std::span<const Input> inputs,
               const PageLayout& layout, const Method* method = nullptr,
               const ForwardHooks& hooks = {});

}  // namespace fastkv
