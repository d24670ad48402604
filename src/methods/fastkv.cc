#include <array>

#include "methods/budget.h"
#include "methods/calibration.h"
#include "methods/table.h"
#include "methods/window_score.h"

namespace fastkv {
namespace {

/// Token-Selective Propagation: layers up to tsp_layer see the whole prompt; only the tokens that
/// are salient there go on. Independently of that, each layer keeps its own salient entries.
class FastKV : public Method {
 public:
  static constexpr std::string_view name = "fastkv";
  static constexpr std::string_view layer_option = "tsp-layer";
  static constexpr std::string_view share_option = "tsp-rate";
  struct Options {
    Budget budget;
    std::int64_t tsp_layer = 0;
    double tsp_rate = 0.2;
    std::int64_t tsp_len = 2048;
    std::string calibration;
    WindowScore window;

    static Options defaults_for(const ModelShape& shape) {
      // LLaMA-3.1-8B, Ministral-8B, Mistral-Nemo-12B.
      static constexpr std::array<PublishedLayer, 3> published = {
          {{32, 4096, 15}, {36, 4096, 17}, {40, 5120, 19}}};
      Options o;
      o.tsp_layer = layer_for(shape, published);
      return o;
    }
    void visit(OptionVisitor& v) {
      budget.visit(v);
      v.integer("tsp-layer", tsp_layer, {.low = 0},
                "last layer that sees the whole prompt, from 0");
      v.number("tsp-rate", tsp_rate, unit_rate, "share of the tokens that goes on after it");
      v.integer("tsp-len", tsp_len, {.low = 1}, "tokens that go on after it, with --mode constant");
      v.text("calibration", "FILE", calibration,
             "take layer and share from what fastkv calibrate wrote");
      window.visit(v);
    }
    void check(const ModelShape& shape, const OptionValues& given) {
      if (!calibration.empty()) {
        budget.refuse_calibration(layer_option);
        read_calibration(calibration, given, shape, layer_option, tsp_layer, share_option,
                         tsp_rate);
        calibration.clear();  // the name of the file is of no interest after that
      }
      window.check();
      budget.check(given, window.window, "window");
      budget.refuse_with_mode(given, "tsp-rate", true);
      budget.refuse_with_mode(given, "tsp-len", false);
      check_layer("tsp-layer", tsp_layer, shape);
      if (budget.constant() && tsp_len <= window.window) {
        fail("--tsp-len {} must be above the window of {}, which always goes on", tsp_len,
             window.window);
      }
    }
  };
  FastKV(const Options& options, const ModelShape& shape)
      : o_(options), group_(shape.query_heads / shape.kv_heads) {}

  Keep keep(const LayerContext& at) const override {
    // Later layers see fewer tokens and keep a larger share of them: about the same number.
    const double share =
        at.layer <= o_.tsp_layer ? o_.budget.retain : o_.budget.retain / o_.tsp_rate;
    const std::int64_t window = o_.window.window;
    return {.budget = std::max(o_.budget.of(at.tokens, share), window + 1), .recent = window};
  }
  std::optional<GoOn> go_on(const LayerContext& at) const override {
    if (at.layer != o_.tsp_layer) return std::nullopt;
    const std::int64_t window = o_.window.window;
    const std::int64_t wanted =
        o_.budget.constant()
            ? o_.tsp_len
            : static_cast<std::int64_t>(static_cast<double>(at.tokens) * o_.tsp_rate);
    const std::int64_t tokens = std::max(wanted, window + 1);
    if (tokens >= at.tokens) return std::nullopt;
    return GoOn{.tokens = tokens, .recent = window};
  }
  bool needs_log_sum_exp(const LayerContext& at) const override {
    return keep(at).budget < at.tokens || go_on(at).has_value();
  }
  Tensor score(const LayerView& layer) const override { return o_.window.score(layer, group_); }

 private:
  Options o_;
  std::int64_t group_;
};

}  // namespace

MethodEntry fastkv_method() {
  return method_entry<FastKV>(
      FastKV::name,
      "Salient tokens alone go on past one layer, and each layer keeps its own salient entries.",
      "FastKV: KV Cache Compression for Fast Long-Context Processing with Token-Selective "
      "Propagation, arXiv 2502.01068");
}

}  // namespace fastkv
