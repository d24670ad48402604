#include "methods/table.h"

#include <array>

namespace fastkv {

std::span<const MethodEntry> method_table() {
  static const std::array table = {
      full_method(),         fastkv_method(),    snapkv_method(),       h2o_method(),
      streamingllm_method(), gemfilter_method(), pyramidinfer_method(),
  };
  return table;
}

const MethodEntry& find_method(std::string_view name) {
  std::string known;
  for (const MethodEntry& entry : method_table()) {
    if (entry.name == name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  fail("there is no method '{}'; the methods are {}", name, known);
}

}  // namespace fastkv
