#include "methods/budget.h"
#include "methods/table.h"

namespace fastkv {
namespace {

/// Attention sinks and a sliding window: looks at positions only, never at scores.
class StreamingLLM : public Method {
 public:
  static constexpr std::string_view name = "streamingllm";
  struct Options {
    Budget budget;
    std::int64_t sink = 4;

    static Options defaults_for(const ModelShape&) { return {}; }
    void visit(OptionVisitor& v) {
      budget.visit(v);
      v.integer("sink", sink, {.low = 0, .high = 4096}, "first tokens that are always kept");
    }
    void check(const ModelShape&, const OptionValues& given) const {
      budget.check(given, sink, "sinks");
    }
  };
  StreamingLLM(const Options& options, const ModelShape&) : o_(options) {}

  Keep keep(const LayerContext& at) const override {
    const std::int64_t budget = std::max(o_.budget.of(at.tokens), o_.sink + 1);
    return {.budget = budget, .first = o_.sink, .recent = budget - o_.sink};
  }

 private:
  Options o_;
};

}  // namespace

MethodEntry streamingllm_method() {
  return method_entry<StreamingLLM>(
      StreamingLLM::name, "Each layer keeps the first tokens (attention sinks) and the last ones.",
      "Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453");
}

}  // namespace fastkv
