#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "fastkv/options.h"
#include "ops/device.h"

namespace fastkv {

/// What a method may know of the model it is made for.
struct ModelShape {
  std::int64_t layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
};

/// Where a prefill stands.
struct LayerContext {
  std::int64_t layer = 0;          // 0-based
  std::int64_t tokens = 0;         // n_l, tokens that entered this layer
  std::int64_t prompt_tokens = 0;  // n_0, tokens that entered layer 0 of this pass
  int pass = 0;                    // 1 after a restart with the selected tokens
};

/// What a layer's cache keeps of its n tokens: the first `first`, the last `recent`, and between
/// them those with the highest scores, `budget` entries a head in all.
struct Keep {
  std::int64_t budget = 0;  // at least n: everything, no score is asked for; 0: nothing
  std::int64_t first = 0;
  std::int64_t recent = 0;
  /// One selection a query head; keys and values are then stored once for each of them.
  bool per_query_head = false;

  static Keep everything() { return {.budget = INT64_MAX}; }
  static Keep nothing() { return {}; }
};

/// Which tokens go on to the next layer: chosen like Keep, by the scores summed over all heads.
struct GoOn {
  std::int64_t tokens = 0;  // at most n_l
  std::int64_t first = 0;
  std::int64_t recent = 0;
  /// The selected tokens do not go on but start over at layer 0, as a prompt of their own with
  /// positions 0, 1, ...; this layer's attention is not computed.
  bool restart = false;
};

/// A layer's queries and keys, for scoring.
struct LayerView {
  Device& device;
  const LayerContext& at;
  View q;            // (n, Hq, D), after rotary embedding
  View k;            // (n, Hkv, D), after rotary embedding
  View positions;    // (n) int32
  View log_sum_exp;  // (n, Hq) float32 where needs_log_sum_exp() asked for it, else empty
  std::int64_t sliding_window = 0;
};

/// A way to compress. It answers four questions about each layer of a prompt; everything else
/// (top-k, gather, cache, positions, devices) is done once for all methods, in model/select.cc and
/// model/forward.cc. Decode appends and never asks. See docs/adding_a_method.md.
class Method {
 public:
  virtual ~Method() = default;

  /// Every option with the value in force, once defaults and presets are settled.
  std::vector<OptionInfo> settings;

  /// How many entries does this layer keep?
  virtual Keep keep(const LayerContext& at) const = 0;
  /// Which tokens go on? Nothing said: all of them.
  virtual std::optional<GoOn> go_on(const LayerContext&) const { return std::nullopt; }
  /// What does it need to see beside queries and keys? The attention's softmax denominators are
  /// written only where this says so.
  virtual bool needs_log_sum_exp(const LayerContext&) const { return false; }
  /// How does it score? (rows, n) float32, higher stays; rows = Hkv, Hq where keep() says
  /// per_query_head, or 1 where only go_on() uses it. Asked only where a choice depends on it.
  virtual Tensor score(const LayerView&) const { return {}; }
};

/// A row of the table of methods.
struct MethodEntry {
  std::string_view name;
  std::string_view summary;                               // one sentence
  std::string_view paper;                                 // title, arXiv number
  std::vector<OptionInfo> (*options)(const ModelShape&);  // with the defaults for that model
  /// Throws Error for an unknown option, a value out of range, a layer outside the model, or
  /// options that contradict each other.
  std::unique_ptr<Method> (*make)(const OptionValues&, const ModelShape&);
  /// The options that name the layer after which only some tokens go on, and their share: what
  /// calibration looks for. Empty: the method has none.
  std::string_view layer_option = {};
  std::string_view share_option = {};
  /// Tokens that the scripts of FastKV's authors give it at most; 0: no limit of its own.
  std::int64_t reference_prompt = 0;
};

/// All methods, in the order in which tables show them.
std::span<const MethodEntry> method_table();
/// Throws Error that lists the known names.
const MethodEntry& find_method(std::string_view name);

/// `options` and `make` of an entry, for a method class with a nested struct Options that has
/// visit(), defaults_for(shape) and check(shape, given).
template <class M>
MethodEntry method_entry(std::string_view name, std::string_view summary, std::string_view paper) {
  MethodEntry entry{
      name, summary, paper,
      [](const ModelShape& shape) { return list_options(M::Options::defaults_for(shape)); },
      [](const OptionValues& values, const ModelShape& shape) -> std::unique_ptr<Method> {
        typename M::Options options = M::Options::defaults_for(shape);
        apply_options(options, values, std::string("method ") + std::string(M::name));
        options.check(shape, values);
        auto method = std::make_unique<M>(options, shape);
        method->settings = list_options(options);
        return method;
      }};
  if constexpr (requires { M::layer_option; }) {
    entry.layer_option = M::layer_option;
    entry.share_option = M::share_option;
  }
  if constexpr (requires { M::reference_prompt; }) entry.reference_prompt = M::reference_prompt;
  return entry;
}

}  // namespace fastkv
