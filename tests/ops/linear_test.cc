#include <cmath>

#include "ops/gemm.h"
#include "ops/op_test.h"

namespace fastkv::test {
namespace {

class Linear : public OpTest {
 protected:
  struct Case {
    std::int64_t rows, depth;
    std::vector<std::int64_t> parts;  // output columns of each
    DType type = DType::f32;
    Device::Store store = Device::Store::overwrite;
  };
  struct Data {
    std::vector<float> x, before;
    std::vector<std::vector<float>> weights;
    std::int64_t columns = 0;
  };

  Data inputs(const Case& c) {
    Data data;
    data.x = normal(c.rows * c.depth);
    for (std::int64_t rows : c.parts) {
      data.weights.push_back(rounded(normal(rows * c.depth), c.type));
      data.columns += rows;
    }
    data.before = normal(c.rows * data.columns);
    return data;
  }

  static std::vector<double> expected(const Case& c, const Data& data) {
    std::vector<double> result;
    for (std::int64_t r = 0; r < c.rows; ++r) {
      for (std::size_t p = 0; p < c.parts.size(); ++p) {
        for (std::int64_t m = 0; m < c.parts[p]; ++m) {
          double sum = c.store == Device::Store::accumulate ? data.before[result.size()] : 0;
          for (std::int64_t k = 0; k < c.depth; ++k)
            sum += double{data.x[r * c.depth + k]} * data.weights[p][m * c.depth + k];
          result.push_back(sum);
        }
      }
    }
    return result;
  }

  static std::vector<float> run(Device& device, const Case& c, const Data& data) {
    Padded x(device, DType::f32, {c.rows, c.depth}),
        out(device, DType::f32, {c.rows, data.columns});
    put(device, x, data.x);
    if (c.store == Device::Store::accumulate) put(device, out, data.before);
    std::vector<Padded> parts;
    parts.reserve(c.parts.size());
    Matrix matrix;
    for (std::size_t p = 0; p < c.parts.size(); ++p) {
      parts.emplace_back(device, c.type, Shape{c.parts[p], c.depth}, /*gap=*/p == 0 ? 0 : 5);
      put(device, parts.back(), data.weights[p]);
      matrix.part[p] = parts.back();
    }
    matrix.parts = static_cast<int>(c.parts.size());
    device.linear(x, matrix, out, c.store);
    EXPECT_TRUE(out.gaps_untouched());
    return get(device, out);
  }
};
INSTANTIATE_FOR_DEVICES(Linear);

TEST_P(Linear, OddShapesTypesAndParts) {
  const auto device = make();
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (std::int64_t rows : {1, 2, 3, 5, 7, 8, 9, 16, 17, 65}) {
      for (std::int64_t depth : {1, 7, 8, 33, 64, 500}) {
        const std::int64_t second = whole(1, 70);
        for (const auto& parts : {std::vector<std::int64_t>{1}, {65, second}, {64, 3, 17}}) {
          Case c{rows, depth, parts, type};
          if ((rows + depth) % 2 == 1) c.store = Device::Store::accumulate;
          const Data data = inputs(c);
          ASSERT_TRUE(near(run(*device, c, data), expected(c, data), 6e-6,
                           std::sqrt(static_cast<double>(depth))))
              << rows << " x " << depth << ", " << parts.size() << " parts, last " << parts.back()
              << ", " << name_of(type);
        }
      }
    }
  }
}

TEST_P(Linear, LargerThanOneTile) {
  const auto device = make();
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    Case c{1100, 40, {700, 30}, type, Device::Store::accumulate};
    const Data data = inputs(c);
    EXPECT_TRUE(near(run(*device, c, data), expected(c, data), 6e-6, 7)) << name_of(type);
  }
}

TEST_P(Linear, ThreadsDoNotChangeResults) {
  if (!GetParam().has_threads) GTEST_SKIP() << "no threads to choose";
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (std::int64_t rows : {1, 4, 8, 9, 40, 333, 1500}) {
      Case c{rows, 300, {600, 200}, type};
      const Data data = inputs(c);
      const auto one = bits(run(*make(1), c, data));
      EXPECT_EQ(one, bits(run(*make(2), c, data))) << rows << " " << name_of(type);
      EXPECT_EQ(one, bits(run(*make(3), c, data))) << rows << " " << name_of(type);
    }
  }
}

class LinearBf16 : public Linear {};
INSTANTIATE_TEST_SUITE_P(
    Processor, LinearBf16,
    testing::Values(DeviceCase{
        "cpu", [](int threads) { return make_cpu_device({.threads = threads, .fast_bf16 = true}); },
        true}));

TEST_P(LinearBf16, BfloatProductsOfRoundedInputs) {
  if (!has_bf16_gemm()) GTEST_SKIP() << "this processor has no bfloat16 instructions";
  for (std::int64_t rows : {9, 65, 1100}) {
    for (std::int64_t depth : {1, 8, 33, 500}) {
      for (auto store : {Device::Store::overwrite, Device::Store::accumulate}) {
        const Case c{rows, depth, {65, 3, 80}, DType::bf16, store};
        Data data = inputs(c);
        data.x = rounded(data.x, DType::bf16);  // what the device does to them
        const std::vector<float> one = run(*make(1), c, data);
        EXPECT_TRUE(near(one, expected(c, data), 4e-6, std::sqrt(static_cast<double>(depth))))
            << rows << " x " << depth;
        for (int threads : {2, 3}) EXPECT_EQ(bits(one), bits(run(*make(threads), c, data)));
      }
    }
  }
}

}  // namespace
}  // namespace fastkv::test
