#include "methods/budget.h"
#include "methods/granularity.h"
#include "methods/table.h"

namespace fastkv {
namespace {

/// Heavy hitters: the entries with the most attention over all queries, causally summed as in the
/// paper, and the most recent ones.
class H2O : public Method {
 public:
  static constexpr std::string_view name = "h2o";
  static constexpr std::int64_t reference_prompt = 7950;
  struct Options {
    Budget budget;
    std::int64_t window = 8;
    Granularity granularity;

    static Options defaults_for(const ModelShape&) { return {}; }
    void visit(OptionVisitor& v) {
      budget.visit(v);
      v.integer("window", window, {.low = 1, .high = 4096},
                "last prompt tokens that are always kept");
      granularity.visit(v);
    }
    void check(const ModelShape&, const OptionValues& given) const {
      budget.check(given, window, "window");
    }
  };
  H2O(const Options& options, const ModelShape& shape)
      : o_(options), group_(o_.granularity.group(shape)) {}

  Keep keep(const LayerContext& at) const override {
    return {.budget = std::max(o_.budget.of(at.tokens), o_.window + 1),
            .recent = o_.window,
            .per_query_head = o_.granularity.per_query_head()};
  }
  bool needs_log_sum_exp(const LayerContext& at) const override {
    return keep(at).budget < at.tokens;
  }
  Tensor score(const LayerView& layer) const override {
    const std::int64_t n = layer.q.rows();
    const std::int64_t heads = layer.q.shape[1];
    Tensor sums = layer.device.empty(DType::f32, {heads, n});
    layer.device.column_sums({.q = layer.q,
                              .k = layer.k,
                              .positions = layer.positions,
                              .rows = n,
                              .row_weights = {},
                              .sliding_window = layer.sliding_window,
                              .log_sum_exp = layer.log_sum_exp,
                              .out = sums});
    if (group_ == 1) return sums;
    Tensor grouped = layer.device.empty(DType::f32, {heads / group_, n});
    layer.device.sum_groups(sums, group_, grouped);
    return grouped;
  }

 private:
  Options o_;
  std::int64_t group_;
};

}  // namespace

MethodEntry h2o_method() {
  return method_entry<H2O>(
      H2O::name, "Each layer keeps the entries with the largest attention summed over all queries.",
      "H2O: Heavy-Hitter Oracle for Efficient Generative Inference, arXiv 2306.14048");
}

}  // namespace fastkv
