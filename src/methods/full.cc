#include "methods/table.h"

namespace fastkv {
namespace {

/// The baseline of baselines: everything is kept.
class Full : public Method {
 public:
  static constexpr std::string_view name = "full";
  struct Options {
    static Options defaults_for(const ModelShape&) { return {}; }
    void visit(OptionVisitor&) {}
    void check(const ModelShape&, const OptionValues&) const {}
  };
  Full(const Options&, const ModelShape&) {}

  Keep keep(const LayerContext&) const override { return Keep::everything(); }
};

}  // namespace

MethodEntry full_method() {
  return method_entry<Full>(Full::name, "Keeps every key and value.",
                            "Attention Is All You Need, arXiv 1706.03762");
}

}  // namespace fastkv
