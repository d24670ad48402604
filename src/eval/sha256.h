#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace fastkv {

/// SHA-256 (FIPS 180-4), for naming what a model is made of.
class Sha256 {
 public:
  Sha256();
  void add(std::string_view bytes);
  /// The digest in hexadecimal. The object is of no further use.
  std::string finish();

 private:
  void block(const unsigned char* data);

  std::array<std::uint32_t, 8> state_;
  std::array<unsigned char, 64> rest_;  // bytes of a block that is not full yet
  std::size_t rest_size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace fastkv
