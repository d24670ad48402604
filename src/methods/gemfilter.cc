#include <array>

#include "methods/budget.h"
#include "methods/calibration.h"
#include "methods/table.h"
#include "methods/window_score.h"

namespace fastkv {
namespace {

/// An early layer chooses the prompt's important tokens; they alone become the prompt.
class GemFilter : public Method {
 public:
  static constexpr std::string_view name = "gemfilter";
  static constexpr std::string_view layer_option = "filter-layer";
  static constexpr std::string_view share_option = "retain";
  struct Options {
    Budget budget;
    std::int64_t filter_layer = 0;
    std::int64_t kernel = 5;
    std::string calibration;

    static Options defaults_for(const ModelShape& shape) {
      static constexpr std::array<PublishedLayer, 1> published = {
          {{32, 4096, 13}}};  // LLaMA-3.1-8B
      Options o;
      o.filter_layer = layer_for(shape, published);
      return o;
    }
    void visit(OptionVisitor& v) {
      budget.visit(v);
      v.integer("filter-layer", filter_layer, {.low = 0}, "layer whose last query chooses, from 0");
      v.integer("kernel", kernel, {.low = 1, .high = 255},
                "average pooling along the sequence, odd");
      v.text("calibration", "FILE", calibration,
             "take layer and share from what fastkv calibrate wrote");
    }
    void check(const ModelShape& shape, const OptionValues& given) {
      if (!calibration.empty()) {
        budget.refuse_calibration(layer_option);
        read_calibration(calibration, given, shape, layer_option, filter_layer, share_option,
                         budget.retain);
        calibration.clear();
      }
      if (kernel % 2 == 0) fail("--kernel must be odd, not {}", kernel);
      budget.check(given, 0, "nothing");
      check_layer("filter-layer", filter_layer, shape);
    }
  };
  GemFilter(const Options& options, const ModelShape&) : o_(options) {}

  Keep keep(const LayerContext& at) const override {
    return at.pass == 0 ? Keep::nothing() : Keep::everything();
  }
  std::optional<GoOn> go_on(const LayerContext& at) const override {
    if (at.pass != 0 || at.layer != o_.filter_layer) return std::nullopt;
    const std::int64_t tokens = std::max<std::int64_t>(o_.budget.of(at.tokens), 1);
    return GoOn{.tokens = std::min(tokens, at.tokens), .restart = true};
  }
  Tensor score(const LayerView& layer) const override {
    const std::int64_t n = layer.q.rows();
    Tensor dots = layer.device.empty(DType::f32, {1, n});
    layer.device.last_query_dots(layer.q, layer.k, dots);
    Tensor pooled = layer.device.empty(DType::f32, {1, n});
    layer.device.pool(dots, n, static_cast<int>(o_.kernel), Pooling::average, pooled);
    return pooled;
  }

 private:
  Options o_;
};

}  // namespace

MethodEntry gemfilter_method() {
  return method_entry<GemFilter>(GemFilter::name,
                                 "An early layer picks the tokens that then run alone, as a "
                                 "shorter prompt, through the model.",
                                 "Discovering the Gems in Early Layers, arXiv 2409.17422");
}

}  // namespace fastkv
