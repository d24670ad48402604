#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

// Writes safetensors files for tests, well-formed ones and broken ones.

namespace fastkv::test {

struct TensorData {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

/// The 8 bytes that say how long the header is.
inline std::string header_length(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes;
}

/// A file with this header, whatever it says, and `data` behind it.
inline std::string safetensors_file(const std::string& header, const std::string& data = "") {
  return header_length(header.size()) + header + data;
}

/// A well-formed file of these tensors, in the order of their names.
inline std::string safetensors_file(const std::map<std::string, TensorData>& tensors) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = data.size();
    data += tensor.bytes;
    header[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // as the format's own writer does
  return safetensors_file(text, data);
}

/// The bytes of numbers as they lie in memory.
template <class T>
std::string bytes_of(const std::vector<T>& numbers) {
  std::string bytes(numbers.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

}  // namespace fastkv::test
