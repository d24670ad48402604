#pragma once

#include <cstdint>
#include <numeric>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

namespace fastkv {

/// Random choices that are the same on every platform: the standard fixes the generator's and the
/// seeding's results, but not those of its distributions, so these are written here.
class Random {
 public:
  /// A stream of its own for each seed, purpose and index.
  explicit Random(std::uint64_t seed, std::string_view purpose = "", std::uint64_t index = 0) {
    std::vector<std::uint32_t> key;
    for (const std::uint64_t part : {seed, index}) {
      key.push_back(static_cast<std::uint32_t>(part));
      key.push_back(static_cast<std::uint32_t>(part >> 32));
    }
    for (const char c : purpose) key.push_back(static_cast<unsigned char>(c));
    std::seed_seq sequence(key.begin(), key.end());
    engine_.seed(sequence);
  }

  std::uint64_t bits() { return engine_(); }

  /// Uniform in [0, n), n > 0.
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t whole = UINT64_MAX - UINT64_MAX % n;  // a multiple of n
    std::uint64_t x;
    do x = engine_();
    while (x >= whole);
    return x % n;
  }
  /// Uniform in [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  template <class Container>
  const auto& pick(const Container& from) {
    return from[static_cast<std::size_t>(below(std::size(from)))];
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[static_cast<std::size_t>(below(i))]);
    }
  }
  /// k different ones of 0 .. n-1 in the order drawn, k <= n.
  std::vector<std::size_t> sample(std::size_t n, std::size_t k) {
    std::vector<std::size_t> all(n);
    std::iota(all.begin(), all.end(), std::size_t{0});
    for (std::size_t i = 0; i < k; ++i) {
      std::swap(all[i], all[i + static_cast<std::size_t>(below(n - i))]);
    }
    all.resize(k);
    return all;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace fastkv
