// Headers of safetensors files. The input is a whole file; where its first byte is odd, the rest
// is a header alone, to which a length and 64 KiB of data are added, so that mutations need not
// keep the length right.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "model/safetensors.h"

namespace {

/// What parse_safetensors() promises of everything that it does not refuse.
void check(const fastkv::StoredTensors& tensors, std::size_t file_bytes) {
  for (const auto& [name, tensor] : tensors) {
    if (tensor.offset > file_bytes || tensor.bytes > file_bytes - tensor.offset) std::abort();
    if (!tensor.type()) continue;
    std::size_t bytes = fastkv::size_of(*tensor.type());
    for (std::int64_t d : tensor.dims) bytes *= static_cast<std::size_t>(d);
    if (bytes != tensor.bytes) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 2 == 1) {
    const std::string header = file.substr(1);
    file.assign(8, '\0');
    for (std::size_t i = 0; i < 4; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
    file += header;
    file.append(std::size_t{1} << 16, 'x');
  }
  try {
    check(fastkv::parse_safetensors(std::as_bytes(std::span(file)), "fuzz"), file.size());
  } catch (const fastkv::Error&) {
    // A sentence is what broken input is meant to get.
  }
  return 0;
}
