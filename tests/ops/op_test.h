#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "ops/device.h"

// What the tests of the operations share. Each test runs on every device in devices() and compares
// with a plain reference in double precision that stands beside it.

namespace fastkv::test {

struct DeviceCase {
  std::string name;
  std::function<std::unique_ptr<Device>(int threads)> make;
  bool has_threads = false;  // results for different numbers of threads can be compared
};
inline std::ostream& operator<<(std::ostream& out, const DeviceCase& device) {
  return out << device.name;
}
std::vector<DeviceCase> devices();

/// Memory of a device with gaps between its rows. Everything starts as NaN (float types) or -1, so
/// that what an operation failed to write, and what it wrote outside the view, shows.
class Padded {
 public:
  Padded(Device& device, DType type, Shape shape, std::int64_t gap = 3);
  operator const View&() const { return view_; }
  const View& view() const { return view_; }
  /// The columns behind each row of the view are as the constructor left them.
  bool gaps_untouched() const;

 private:
  Device& device_;
  Tensor memory_;  // (rows, elements of a row + gap)
  View view_;
  std::int64_t gap_;
};

/// A cached layer on a device, from the addresses of each head's pages.
class CachedPages {
 public:
  CachedPages(Device& device, const std::vector<std::vector<std::byte*>>& pages,
              const std::vector<std::int32_t>& lengths);
  CachedLayer layer() const;
  std::vector<std::int32_t> lengths() const;

 private:
  Device& device_;
  std::int64_t capacity_ = 1;
  Tensor table_;    // (heads, 2 * capacity) int32
  Tensor lengths_;  // (heads) int32
};

class OpTest : public testing::TestWithParam<DeviceCase> {
 protected:
  OpTest();
  std::unique_ptr<Device> make(int threads = 2) const { return GetParam().make(threads); }

  std::vector<float> normal(std::int64_t count, float deviation = 1);
  std::int64_t whole(std::int64_t lowest, std::int64_t highest);

  std::mt19937 random_;
};
#define INSTANTIATE_FOR_DEVICES(suite)                                                   \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::ValuesIn(::fastkv::test::devices()), \
                           [](const auto& tested) { return tested.param.name; })

/// `values` as the type stores them.
std::vector<float> rounded(std::vector<float> values, DType type);
void put(Device& device, const View& to, const std::vector<float>& values);
void put(Device& device, const View& to, const std::vector<std::int32_t>& values);
std::vector<float> get(Device& device, const View& from);
std::vector<std::int32_t> get_ints(Device& device, const View& from);
/// The bytes an operation wrote, to compare runs bit by bit.
std::vector<std::uint32_t> bits(const std::vector<float>& values);

/// |actual - expected| <= tolerance * (scale + |expected|) everywhere; names the worst element.
testing::AssertionResult near(const std::vector<float>& actual, const std::vector<double>& expected,
                              double tolerance, double scale = 1);

}  // namespace fastkv::test
