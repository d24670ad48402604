#include "eval/sha256.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace fastkv {
namespace {

/// The standard's constants are the first 32 bits behind the binary point of the square and cube
/// roots of the first primes.
std::uint32_t fraction_bits(long double root) {
  return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
}
template <std::size_t N>
std::array<std::uint32_t, N> root_constants(long double (*root)(long double)) {
  std::array<std::uint32_t, N> constants{};
  std::size_t found = 0;
  for (int n = 2; found < N; ++n) {
    bool prime = true;
    for (int d = 2; d * d <= n; ++d) prime &= n % d != 0;
    if (prime) constants[found++] = fraction_bits(root(static_cast<long double>(n)));
  }
  return constants;
}
const std::array<std::uint32_t, 64>& round_constants() {
  static const auto constants =
      root_constants<64>([](long double x) -> long double { return std::cbrt(x); });
  return constants;
}

std::uint32_t mix(std::uint32_t x, int a, int b, int c) {
  return std::rotr(x, a) ^ std::rotr(x, b) ^ std::rotr(x, c);
}

}  // namespace

Sha256::Sha256()
    : state_(root_constants<8>([](long double x) -> long double { return std::sqrt(x); })) {}

void Sha256::block(const unsigned char* data) {
  const auto& k = round_constants();
  std::array<std::uint32_t, 64> w;
  for (std::size_t i = 0; i < 16; ++i) {
    w[i] = std::uint32_t{data[4 * i]} << 24 | std::uint32_t{data[4 * i + 1]} << 16 |
           std::uint32_t{data[4 * i + 2]} << 8 | std::uint32_t{data[4 * i + 3]};
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t t1 = h + mix(e, 6, 11, 25) + ((e & f) ^ (~e & g)) + k[i] + w[i];
    const std::uint32_t t2 = mix(a, 2, 13, 22) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const std::array<std::uint32_t, 8> added = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state_[i] += added[i];
}

void Sha256::add(std::string_view bytes) {
  bytes_ += bytes.size();
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  while (left > 0) {
    if (rest_size_ == 0 && left >= rest_.size()) {
      block(data);
      data += rest_.size();
      left -= rest_.size();
      continue;
    }
    const std::size_t taken = std::min(left, rest_.size() - rest_size_);
    std::memcpy(rest_.data() + rest_size_, data, taken);
    rest_size_ += taken;
    data += taken;
    left -= taken;
    if (rest_size_ < rest_.size()) continue;
    block(rest_.data());
    rest_size_ = 0;
  }
}

std::string Sha256::finish() {
  const std::uint64_t bits = bytes_ * 8;
  std::string end(1, '\x80');
  while ((bytes_ + end.size()) % 64 != 56) end += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) end += static_cast<char>(bits >> shift & 0xFF);
  add(end);
  std::string text;
  for (const std::uint32_t word : state_) text += fmt::format("{:08x}", word);
  return text;
}

}  // namespace fastkv
