#include "ops/op_test.h"

#include "ops/simd_targets.h"
// Before any of Highway's headers.
#include <fmt/core.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>

#include "ops/convert.h"

namespace fastkv::test {
namespace {

std::uint32_t seed() {
  static const std::uint32_t value = [] {
    const char* given = std::getenv("FASTKV_TEST_SEED");
    const auto chosen = given != nullptr
                            ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                            : std::random_device{}();
    std::cout << "FASTKV_TEST_SEED=" << chosen << '\n';
    return chosen;
  }();
  return value;
}

std::int64_t row_elements(const View& view) {
  return view.rows() == 0 ? 0 : view.shape.count() / view.rows();
}

std::vector<std::byte> download(Device& device, const View& from) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(from.shape.count()) * size_of(from.type));
  device.download(from, bytes.data());
  return bytes;
}

}  // namespace

std::vector<DeviceCase> devices() {
  // The processor once for each instruction set that it has and the kernels are compiled for.
  std::vector<DeviceCase> cases;
  for (std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    cases.push_back({fmt::format("cpu_{}", hwy::TargetName(target)),
                     [target](int threads) {
                       hwy::SetSupportedTargetsForTest(target);
                       hwy::GetChosenTarget().Update(hwy::SupportedTargets());
                       return make_cpu_device({.threads = threads, .fast_bf16 = false});
                     },
                     /*has_threads=*/true});
  }
  if (has_cuda_device()) {
    cases.push_back(
        {"cuda_f32",
         [](int) { return make_cuda_device({.ordinal = 0, .activations = DType::f32}); },
         /*has_threads=*/false});
  }
  return cases;
}

Padded::Padded(Device& device, DType type, Shape shape, std::int64_t gap)
    : device_(device), gap_(gap) {
  const View packed(nullptr, type, shape);
  const std::int64_t stride = row_elements(packed) + gap;
  memory_ = device.empty(type, {shape[0], stride});
  const std::vector<std::byte> poison(memory_.bytes(), std::byte{0xff});  // NaN in every type
  device.upload(poison.data(), memory_);
  view_ = View(memory_.view().data, type, shape, stride);
}

bool Padded::gaps_untouched() const {
  const std::vector<std::byte> bytes = download(device_, memory_);
  const std::size_t size = size_of(view_.type);
  const auto stride = static_cast<std::size_t>(view_.row_stride) * size;
  const std::size_t gap = static_cast<std::size_t>(gap_) * size;
  for (std::size_t row = 0; row < static_cast<std::size_t>(view_.rows()); ++row) {
    for (std::size_t i = (row + 1) * stride - gap; i < (row + 1) * stride; ++i) {
      if (bytes[i] != std::byte{0xff}) return false;
    }
  }
  return true;
}

CachedPages::CachedPages(Device& device, const std::vector<std::vector<std::byte*>>& pages,
                         const std::vector<std::int32_t>& lengths)
    : device_(device) {
  const auto heads = static_cast<std::int64_t>(pages.size());
  if (heads == 0) return;
  for (const auto& head : pages)
    capacity_ = std::max(capacity_, static_cast<std::int64_t>(head.size()));
  std::vector<std::byte*> table(static_cast<std::size_t>(heads * capacity_));
  for (std::int64_t h = 0; h < heads; ++h) {
    const auto& head = pages[static_cast<std::size_t>(h)];
    std::copy(head.begin(), head.end(), table.begin() + h * capacity_);
  }
  table_ = device.empty(DType::i32, {heads, 2 * capacity_});
  device.upload(table.data(), table_);
  lengths_ = device.empty(DType::i32, {heads});
  device.upload(lengths.data(), lengths_);
}

CachedLayer CachedPages::layer() const {
  if (!table_) return {};
  return {static_cast<std::byte* const*>(table_.view().data), lengths_.as<std::int32_t>(),
          lengths_.shape()[0], capacity_};
}

std::vector<std::int32_t> CachedPages::lengths() const { return get_ints(device_, lengths_); }

OpTest::OpTest() : random_(seed()) {}

std::vector<float> OpTest::normal(std::int64_t count, float deviation) {
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random_);
  return values;
}

std::int64_t OpTest::whole(std::int64_t lowest, std::int64_t highest) {
  return std::uniform_int_distribution<std::int64_t>(lowest, highest)(random_);
}

std::vector<float> rounded(std::vector<float> values, DType type) {
  if (type == DType::bf16) {
    for (float& value : values) value = float_from_bf16(bf16_from_float(value));
  } else if (type == DType::f16) {
    // Values whose last bits float16 cannot hold are cut; range is the caller's care.
    for (float& value : values) {
      std::uint32_t u;
      std::memcpy(&u, &value, 4);
      u &= 0xffffe000U;
      std::memcpy(&value, &u, 4);
      if (std::fabs(value) < 0x1p-14F) value = 0;
    }
  }
  return values;
}

void put(Device& device, const View& to, const std::vector<float>& values) {
  ASSERT_EQ(to.shape.count(), static_cast<std::int64_t>(values.size()));
  if (to.type == DType::f32) return device.upload(values.data(), to);
  std::vector<std::uint16_t> halves;
  for (float value : values) {
    if (to.type == DType::bf16) {
      halves.push_back(bf16_from_float(value));
    } else {
      std::uint32_t u;
      std::memcpy(&u, &value, 4);
      const std::uint32_t sign = (u >> 16) & 0x8000U;
      const std::uint32_t magnitude = u & 0x7fffffffU;
      halves.push_back(static_cast<std::uint16_t>(
          magnitude == 0 ? sign : sign | ((magnitude >> 13) - (112U << 10))));
    }
  }
  device.upload(halves.data(), to);
}

void put(Device& device, const View& to, const std::vector<std::int32_t>& values) {
  ASSERT_EQ(to.shape.count(), static_cast<std::int64_t>(values.size()));
  device.upload(values.data(), to);
}

std::vector<float> get(Device& device, const View& from) {
  const std::vector<std::byte> bytes = download(device, from);
  std::vector<float> values(static_cast<std::size_t>(from.shape.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = load_float(bytes.data(), from.type, static_cast<std::int64_t>(i));
  }
  return values;
}

std::vector<std::int32_t> get_ints(Device& device, const View& from) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(from.shape.count()));
  device.download(from, values.data());
  return values;
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> result(values.size());
  if (!values.empty()) std::memcpy(result.data(), values.data(), values.size() * 4);
  return result;
}

testing::AssertionResult near(const std::vector<float>& actual, const std::vector<double>& expected,
                              double tolerance, double scale) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  }
  std::size_t worst = 0;
  double worst_error = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i]) != std::isnan(expected[i]) ||
        std::isinf(actual[i]) != std::isinf(expected[i])) {
      return testing::AssertionFailure() << "element " << i << " of " << actual.size() << " is "
                                         << actual[i] << ", expected " << expected[i];
    }
    if (actual[i] == expected[i]) continue;
    const double error =
        std::fabs(actual[i] - expected[i]) / (tolerance * (scale + std::fabs(expected[i])));
    if (error > worst_error) {
      worst_error = error;
      worst = i;
    }
  }
  if (worst_error <= 1) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "element " << worst << " of " << actual.size() << " is " << actual[worst]
         << ", expected " << expected[worst] << ": " << worst_error << " times the tolerance";
}

// The comparison itself must be able to fail.
TEST(Near, FindsWhatDiffers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(near({1, 2}, {1, 2.000001}, 1e-6));
  EXPECT_FALSE(near({1, 2}, {1, 2.00001}, 1e-6));
  EXPECT_FALSE(near({1, nan}, {1, 2}, 1e-6));
  EXPECT_FALSE(near({1}, {1, 2}, 1e-6));
}

TEST(Convert, HalfPrecision) {
  EXPECT_EQ(float_from_f16(0x3c00), 1.0F);
  EXPECT_EQ(float_from_f16(0xc000), -2.0F);
  EXPECT_EQ(float_from_f16(0x0001), 0x1p-24F);
  EXPECT_EQ(float_from_f16(0x7bff), 65504.0F);
  EXPECT_EQ(float_from_f16(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(float_from_f16(0x7e00)));
  EXPECT_EQ(bf16_from_float(1.0F), 0x3f80);
  EXPECT_EQ(bf16_from_float(1.00390625F), 0x3f80);  // halfway: to even
  EXPECT_EQ(bf16_from_float(1.01171875F), 0x3f82);
  EXPECT_TRUE(std::isnan(float_from_bf16(bf16_from_float(std::nanf("")))));
}

}  // namespace fastkv::test
