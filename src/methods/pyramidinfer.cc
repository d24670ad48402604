#include <array>
#include <cmath>
#include <numbers>

#include "methods/budget.h"
#include "methods/table.h"

namespace fastkv {
namespace {

/// Fewer context tokens from layer to layer, along a cosine: what the recent tokens attend to on
/// average goes on, and each layer's cache is what entered it.
class PyramidInfer : public Method {
 public:
  static constexpr std::string_view name = "pyramidinfer";
  static constexpr std::int64_t reference_prompt = 7950;
  struct Options {
    std::string mode = "proportional";
    std::optional<double> retain;
    std::optional<std::int64_t> capacity;
    double recent_ratio = 0.2;
    std::optional<double> decay;  // none: found for each prompt from retain or capacity
    std::int64_t min_context = 64;
    std::int64_t sink = 4;
    double distance_weight = 1.2;

    static Options defaults_for(const ModelShape& shape) {
      Options o;
      o.decay = published_for(shape).front().decay;
      return o;
    }
    void visit(OptionVisitor& v) {
      v.choice("mode", mode, {"proportional", "constant"}, "what --retain or --capacity asks for");
      v.number("retain", retain, unit_rate,
               "mean share of the prompt that layers keep: sets --decay (published values at 0.6, "
               "0.5, 0.35)");
      v.integer("capacity", capacity, {.low = 1},
                "mean entries that layers keep, with --mode constant");
      v.number("recent-ratio", recent_ratio, {0.0, 1.0, true},
               "share of the prompt that always goes on");
      v.number("decay", decay, unit_rate, "share of its context that the last layer passes on");
      v.integer("min-context", min_context, {.low = 0},
                "context tokens below which nothing is dropped");
      v.integer("sink", sink, {.low = 0, .high = 4096}, "first tokens that always go on");
      v.number("distance-weight", distance_weight, {0.0, 1e6},
               "weight of the last recent token, the first has 1");
    }
    void check(const ModelShape& shape, const OptionValues& given) {
      const bool constant = mode == "constant";
      if (constant && !capacity) fail("--mode constant needs --capacity");
      if (constant && retain)
        fail("--retain has no meaning with --mode constant; leave one of them out");
      if (!constant && capacity) fail("--capacity needs --mode constant");
      const bool asked = retain || capacity;
      if (asked && given.contains("decay")) {
        fail("--decay is what --{} sets; leave one of them out", constant ? "capacity" : "retain");
      }
      if (!asked) return;
      // A share far below one half cannot be reached while a fifth of the prompt always goes on.
      if (!given.contains("recent-ratio") && (constant || *retain < 0.5)) recent_ratio = 0.01;
      decay.reset();
      if (!retain) return;
      for (const Published& p : published_for(shape)) {
        if (p.retain != *retain) continue;
        decay = p.decay;
        if (!given.contains("recent-ratio")) recent_ratio = p.recent_ratio;
        retain.reset();
        return;
      }
    }
  };
  PyramidInfer(const Options& options, const ModelShape& shape)
      : o_(options), layers_(shape.layers) {}

  Keep keep(const LayerContext&) const override { return Keep::everything(); }
  std::optional<GoOn> go_on(const LayerContext& at) const override {
    return go_on(at, decay_for(at.prompt_tokens));
  }
  bool needs_log_sum_exp(const LayerContext& at) const override { return go_on(at).has_value(); }
  Tensor score(const LayerView& layer) const override {
    const std::int64_t n = layer.q.rows();
    const std::int64_t heads = layer.q.shape[1];
    const std::int64_t rows = recent(layer.at);
    // Later queries weigh more; the division makes it a mean over heads and queries.
    std::vector<float> weights(static_cast<std::size_t>(rows));
    const float scale = 1.0f / static_cast<float>(rows * heads);
    for (std::int64_t i = 0; i < rows; ++i) {
      const double t = rows == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(rows - 1);
      weights[static_cast<std::size_t>(i)] =
          static_cast<float>(1.0 + (o_.distance_weight - 1.0) * t) * scale;
    }
    Tensor sums = layer.device.empty(DType::f32, {heads, n});
    layer.device.column_sums({.q = layer.q,
                              .k = layer.k,
                              .positions = layer.positions,
                              .rows = rows,
                              .row_weights = weights,
                              .sliding_window = layer.sliding_window,
                              .log_sum_exp = layer.log_sum_exp,
                              .out = sums});
    Tensor mean = layer.device.empty(DType::f32, {1, n});
    layer.device.sum_groups(sums, heads, mean);
    return mean;
  }

 private:
  struct Published {
    double retain, recent_ratio, decay;
  };
  static std::span<const Published> published_for(const ModelShape& shape) {
    static constexpr std::array<Published, 3> llama = {
        {{0.6, 0.2, 0.7}, {0.5, 0.2, 0.3}, {0.35, 0.01, 0.01}}};
    static constexpr std::array<Published, 2> ministral = {{{0.6, 0.2, 0.75}, {0.35, 0.01, 0.01}}};
    static constexpr std::array<Published, 1> nemo = {{{0.6, 0.2, 0.78}}};
    if (shape.layers == 36 && shape.hidden_size == 4096) return ministral;
    if (shape.layers == 40 && shape.hidden_size == 5120) return nemo;
    return llama;
  }

  /// The last tokens, which score and always go on: 1 + int(n_0 * recent_ratio).
  std::int64_t recent(const LayerContext& at) const {
    const auto share =
        static_cast<std::int64_t>(static_cast<double>(at.prompt_tokens) * o_.recent_ratio);
    return std::min(1 + share, at.prompt_tokens);
  }
  std::optional<GoOn> go_on(const LayerContext& at, double decay) const {
    const std::int64_t recent = this->recent(at);
    const std::int64_t context = at.tokens - recent;
    const std::int64_t least = std::min(o_.min_context, at.prompt_tokens - recent);
    const double depth = static_cast<double>(at.layer) / static_cast<double>(layers_);
    const double ratio = (1 - decay) * (std::cos(std::numbers::pi * depth) + 1) / 2 + decay;
    if (context <= least || ratio >= 1.0) return std::nullopt;
    const auto share = static_cast<std::int64_t>(static_cast<double>(context) * ratio);
    return GoOn{
        .tokens = (share > least ? share : context) + recent, .first = o_.sink, .recent = recent};
  }
  /// Entries of all layers together for a prompt of n tokens.
  std::int64_t total_entries(std::int64_t n, double decay) const {
    LayerContext at{.tokens = n, .prompt_tokens = n};
    std::int64_t total = 0;
    for (at.layer = 0; at.layer < layers_; ++at.layer) {
      total += at.tokens;
      if (const auto chosen = go_on(at, decay)) at.tokens = chosen->tokens;
    }
    return total;
  }
  /// The decay asked for, or the largest one that meets the budget for a prompt of n tokens (the
  /// smallest possible where none does).
  double decay_for(std::int64_t n) const {
    if (o_.decay) return *o_.decay;
    const double mean =
        o_.capacity ? static_cast<double>(*o_.capacity) : static_cast<double>(n) * *o_.retain;
    double low = 0.0;
    double high = 1.0;
    for (int i = 0; i < 40; ++i) {
      const double middle = (low + high) / 2;
      const bool fits =
          static_cast<double>(total_entries(n, middle)) <= mean * static_cast<double>(layers_);
      (fits ? low : high) = middle;
    }
    return low;
  }

  Options o_;
  std::int64_t layers_;
};

}  // namespace

MethodEntry pyramidinfer_method() {
  return method_entry<PyramidInfer>(
      PyramidInfer::name, "Layer by layer fewer tokens go on; each layer keeps what entered it.",
      "PyramidInfer: Pyramid KV Cache Compression for High-throughput LLM Inference, arXiv "
      "2405.12532");
}

}  // namespace fastkv
