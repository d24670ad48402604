#include "methods/budget.h"
#include "methods/granularity.h"
#include "methods/table.h"
#include "methods/window_score.h"

namespace fastkv {
namespace {

/// Every layer keeps what the prompt's last tokens attend to.
class SnapKV : public Method {
 public:
  static constexpr std::string_view name = "snapkv";
  struct Options {
    Budget budget;
    WindowScore window;
    Granularity granularity;

    static Options defaults_for(const ModelShape&) { return {}; }
    void visit(OptionVisitor& v) {
      budget.visit(v);
      window.visit(v);
      granularity.visit(v);
    }
    void check(const ModelShape&, const OptionValues& given) const {
      window.check();
      budget.check(given, window.window, "window");
    }
  };
  SnapKV(const Options& options, const ModelShape& shape)
      : o_(options), group_(o_.granularity.group(shape)) {}

  Keep keep(const LayerContext& at) const override {
    const std::int64_t window = o_.window.window;
    return {.budget = std::max(o_.budget.of(at.tokens), window + 1),
            .recent = window,
            .per_query_head = o_.granularity.per_query_head()};
  }
  bool needs_log_sum_exp(const LayerContext& at) const override {
    return keep(at).budget < at.tokens;
  }
  Tensor score(const LayerView& layer) const override { return o_.window.score(layer, group_); }

 private:
  Options o_;
  std::int64_t group_;
};

}  // namespace

MethodEntry snapkv_method() {
  return method_entry<SnapKV>(
      SnapKV::name, "Each layer keeps the entries that the last tokens attend to.",
      "SnapKV: LLM Knows What You are Looking for Before Generation, arXiv 2404.14469");
}

}  // namespace fastkv
