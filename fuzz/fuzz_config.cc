// config.json. Whatever is accepted must have sizes that later code can multiply without care.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "model/config.h"

namespace {

void check(const fastkv::ModelConfig& c) {
  if (c.query_heads % c.kv_heads != 0 || c.head_dim % 2 != 0) std::abort();
  if (c.qkv_rows() <= 0 || c.linear_parameters() <= 0) std::abort();
  if (c.sliding_window.size() != static_cast<std::size_t>(c.layers)) std::abort();
  for (float frequency : fastkv::rope_frequencies(c)) {
    if (!std::isfinite(frequency)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    check(fastkv::parse_config({reinterpret_cast<const char*>(data), size}, "fuzz"));
  } catch (const fastkv::Error&) {
    // A sentence is what broken input is meant to get.
  }
  return 0;
}
