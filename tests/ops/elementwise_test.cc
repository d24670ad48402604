#include <cmath>

#include "ops/op_test.h"

namespace fastkv::test {
namespace {

class Elementwise : public OpTest {};
INSTANTIATE_FOR_DEVICES(Elementwise);

const std::int64_t sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 500};

TEST_P(Elementwise, RmsNorm) {
  const auto device = make();
  for (std::int64_t rows : {1, 3, 65}) {
    for (std::int64_t width : sizes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << width);
      const auto x = normal(rows * width, 3), w = normal(width);
      const float epsilon = 1e-5F;
      Padded in(*device, DType::f32, {rows, width}), weight(*device, DType::f32, {width}, 0),
          out(*device, DType::f32, {rows, width});
      put(*device, in, x);
      put(*device, weight.view(), w);
      device->rms_norm(in, weight, epsilon, out);
      std::vector<double> expected;
      for (std::int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::int64_t i = 0; i < width; ++i)
          squares += double{x[r * width + i]} * x[r * width + i];
        const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
        for (std::int64_t i = 0; i < width; ++i)
          expected.push_back(w[i] * scale * x[r * width + i]);
      }
      EXPECT_TRUE(near(get(*device, out), expected, 2e-6, 0.1));
      EXPECT_TRUE(out.gaps_untouched());
    }
  }
}

TEST_P(Elementwise, AddBias) {
  const auto device = make();
  for (std::int64_t width : sizes) {
    const auto x = normal(5 * width), b = normal(width);
    Padded in(*device, DType::f32, {5, width}), bias(*device, DType::f32, {width}, 0);
    put(*device, in, x);
    put(*device, bias.view(), b);
    device->add_bias(in, bias);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < 5 * width; ++i) expected.push_back(double{x[i]} + b[i % width]);
    EXPECT_TRUE(near(get(*device, in), expected, 2e-7));
    EXPECT_TRUE(in.gaps_untouched());
  }
}

TEST_P(Elementwise, Swiglu) {
  const auto device = make();
  for (std::int64_t width : sizes) {
    // Large magnitudes too: the sigmoid must reach 0 and 1 without becoming NaN.
    auto x = normal(5 * 2 * width, 4);
    x[0] = -200;
    if (width > 1) x[1] = 200;
    Padded in(*device, DType::f32, {5, 2 * width}), out(*device, DType::f32, {5, width});
    put(*device, in, x);
    device->swiglu(in, out);
    std::vector<double> expected;
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t i = 0; i < width; ++i) {
        const double gate = x[r * 2 * width + i], up = x[r * 2 * width + width + i];
        expected.push_back(gate / (1 + std::exp(-gate)) * up);
      }
    }
    EXPECT_TRUE(near(get(*device, out), expected, 1e-6, 0.1)) << width;
    EXPECT_TRUE(out.gaps_untouched());
  }
}

TEST_P(Elementwise, Rope) {
  const auto device = make();
  for (std::int64_t dim : {2, 6, 32, 64, 96, 128}) {
    for (std::int64_t heads : {1, 3}) {
      SCOPED_TRACE(testing::Message() << heads << " heads of " << dim);
      std::vector<std::int32_t> at = {0, 1, 2, 77, 1000, 65535, 131071};
      const auto rows = static_cast<std::int64_t>(at.size());
      std::vector<float> frequency;
      for (std::int64_t i = 0; i < dim / 2; ++i) {
        frequency.push_back(static_cast<float>(
            std::pow(5e5, -2 * static_cast<double>(i) / static_cast<double>(dim))));
      }
      auto x = normal(rows * heads * dim);
      // In a head that stays as it is nothing touches its pair, whatever it is.
      if (heads > 1) x[static_cast<std::size_t>((heads - 1) * dim)] = HUGE_VALF;
      Padded in(*device, DType::f32, {rows, heads, dim}), positions(*device, DType::i32, {rows}, 0),
          frequencies(*device, DType::f32, {dim / 2}, 0);
      put(*device, in, x);
      put(*device, positions, at);
      put(*device, frequencies, frequency);
      const std::int64_t rotated = (heads + 1) / 2;
      Padded out(*device, DType::f32, {rows, heads, dim}, 5);
      device->rope(in, rotated, positions, frequencies, out);
      device->rope(in, rotated, positions, frequencies, in);
      std::vector<double> expected(x.begin(), x.end());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t h = 0; h < rotated; ++h) {
          for (std::int64_t i = 0; i < dim / 2; ++i) {
            const std::int64_t a = (r * heads + h) * dim + i, b = a + dim / 2;
            const float angle = static_cast<float>(at[r]) * frequency[i];  // float32, as specified
            const double c = std::cos(double{angle}), s = std::sin(double{angle});
            expected[a] = x[a] * c - x[b] * s;
            expected[b] = x[b] * c + x[a] * s;
          }
        }
      }
      EXPECT_TRUE(near(get(*device, in), expected, 3e-7));
      EXPECT_EQ(bits(get(*device, out)), bits(get(*device, in)));
      EXPECT_TRUE(in.gaps_untouched());
      EXPECT_TRUE(out.gaps_untouched());
    }
  }
}

}  // namespace
}  // namespace fastkv::test
