#include <algorithm>
#include <cmath>

#include "ops/op_test.h"

namespace fastkv::test {
namespace {

struct Case {
  std::int64_t query_heads, kv_heads, dim, tokens, rows;
  bool weighted = false;
  bool given_log_sum_exp = false;
  std::int64_t window = 0;
  float deviation = 1;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "Hq " << c.query_heads << " Hkv " << c.kv_heads << " D " << c.dim << " n "
             << c.tokens << " rows " << c.rows << " weighted " << c.weighted << " given "
             << c.given_log_sum_exp << " window " << c.window;
}

struct Data {
  std::vector<float> q, k, weights;
  std::vector<std::int32_t> positions;
};

class ColumnSums : public OpTest {
 protected:
  Data inputs(const Case& c) {
    Data data;
    data.q = normal(c.tokens * c.query_heads * c.dim, c.deviation);
    data.k = normal(c.tokens * c.kv_heads * c.dim);
    data.k[data.k.size() / 2] = 30;  // an outlier
    std::int32_t next = 0;
    for (std::int64_t i = 0; i < c.tokens; ++i) {
      data.positions.push_back(next);
      next += i % 5 == 4 ? 2 : 1;
    }
    if (c.weighted) {
      for (std::int64_t i = 0; i < c.rows; ++i)
        data.weights.push_back(1 + 0.2F * static_cast<float>(i) / static_cast<float>(c.rows));
    }
    return data;
  }

  static std::vector<float> run(Device& device, const Case& c, const Data& data) {
    const std::int64_t n = c.tokens, width = (c.query_heads + 2 * c.kv_heads) * c.dim;
    Padded qkv(device, DType::f32, {n, width}), positions(device, DType::i32, {n}, 0),
        out(device, DType::f32, {c.query_heads, n}),
        log_sum_exp(device, DType::f32, {n, c.query_heads});
    const View all = qkv;
    const View q = all.heads(0, c.query_heads, c.dim);
    const View k = all.heads(c.query_heads * c.dim, c.kv_heads, c.dim);
    put(device, q, data.q);
    put(device, k, data.k);
    put(device, positions, data.positions);
    if (c.given_log_sum_exp) {
      // Only the rows asked for may be needed, but attention() writes them all.
      Padded v(device, DType::f32, {n, c.kv_heads, c.dim}),
          attended(device, DType::f32, {n, c.query_heads * c.dim});
      put(device, v, std::vector<float>(static_cast<std::size_t>(n * c.kv_heads * c.dim), 1.0F));
      const AttentionSegment segment{0, n, {}};
      device.attention({.q = q,
                        .k = k,
                        .v = v,
                        .positions = positions,
                        .segments = {&segment, 1},
                        .layout = {},
                        .sliding_window = c.window,
                        .out = attended,
                        .log_sum_exp = log_sum_exp});
    }
    device.column_sums({.q = q,
                        .k = k,
                        .positions = positions,
                        .rows = c.rows,
                        .row_weights = data.weights,
                        .sliding_window = c.window,
                        .log_sum_exp = c.given_log_sum_exp ? log_sum_exp.view() : View{},
                        .out = out});
    EXPECT_TRUE(out.gaps_untouched());
    return get(device, out);
  }

  static std::vector<double> expected(const Case& c, const Data& data) {
    std::vector<double> result(static_cast<std::size_t>(c.query_heads * c.tokens));
    const std::int64_t group = c.query_heads / c.kv_heads;
    for (std::int64_t h = 0; h < c.query_heads; ++h) {
      for (std::int64_t r = 0; r < c.rows; ++r) {
        const std::int64_t i = c.tokens - c.rows + r;
        std::vector<double> p;
        std::int64_t oldest = 0;
        while (c.window > 0 && data.positions[oldest] <= data.positions[i] - c.window) ++oldest;
        for (std::int64_t j = oldest; j <= i; ++j) {
          double dot = 0;
          for (std::int64_t d = 0; d < c.dim; ++d)
            dot += double{data.q[(i * c.query_heads + h) * c.dim + d]} *
                   data.k[(j * c.kv_heads + h / group) * c.dim + d];
          p.push_back(dot / std::sqrt(static_cast<double>(c.dim)));
        }
        const double highest = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& x : p) sum += x = std::exp(x - highest);
        const double weight = data.weights.empty() ? 1 : data.weights[r];
        for (std::size_t j = 0; j < p.size(); ++j)
          result[h * c.tokens + oldest + static_cast<std::int64_t>(j)] += weight * p[j] / sum;
      }
    }
    return result;
  }

  void check(Device& device, const Case& c, double tolerance = 1e-5) {
    const Data data = inputs(c);
    EXPECT_TRUE(near(run(device, c, data), expected(c, data), tolerance, 0.1)) << c;
  }
};
INSTANTIATE_FOR_DEVICES(ColumnSums);

TEST_P(ColumnSums, WindowOfTheLastQueries) {
  const auto device = make();
  for (std::int64_t rows : {1, 2, 7, 8, 9, 32, 64}) {
    for (std::int64_t tokens : {64, 65, 500, 1030}) {
      check(*device, {4, 2, 32, tokens, rows});
    }
  }
}

TEST_P(ColumnSums, AllQueries) {
  const auto device = make();
  for (std::int64_t tokens : {1, 2, 7, 8, 9, 63, 64, 65, 300}) {
    for (bool given : {false, true}) check(*device, {4, 2, 32, tokens, tokens, false, given});
  }
}

TEST_P(ColumnSums, HeadSizesGroupsAndWeights) {
  const auto device = make();
  for (std::int64_t dim : {32, 64, 96, 128}) {
    for (std::int64_t group : {1, 2, 3, 4, 8}) {
      for (std::int64_t rows : {8, 131}) {
        check(*device, {2 * group, 2, dim, 131, rows, /*weighted=*/true, group % 2 == 0});
      }
    }
  }
}

TEST_P(ColumnSums, SlidingWindow) {
  const auto device = make();
  for (std::int64_t window : {1, 9, 100}) {
    for (std::int64_t rows : {8, 100, 400}) {
      for (bool given : {false, true}) check(*device, {2, 1, 32, 400, rows, false, given, window});
    }
  }
}

TEST_P(ColumnSums, SoftmaxOfAlmostZeroOrOne) {
  const auto device = make();
  for (std::int64_t rows : {8, 200}) {
    check(*device, {4, 2, 64, 200, rows, false, false, 0, 30}, 1e-4);
  }
}

TEST_P(ColumnSums, OrderBelowTheNormalRange) {
  const auto device = make();
  // One query: key j has the logit -ln(2) * exponent[j], so its probability is 2^-exponent[j].
  const std::int64_t n = 201;
  Data data;
  std::vector<double> exponent(n, 0.0);
  for (std::int64_t j = 1; j < n - 1; ++j) exponent[j] = 100 + 49.0 * static_cast<double>(j) / n;
  data.q.resize(n * 32);
  data.k.resize(n * 32);
  data.q[(n - 1) * 32] = std::sqrt(32.0F);
  for (std::int64_t j = 0; j < n; ++j) {
    data.k[j * 32] = static_cast<float>(-std::log(2.0) * exponent[j]);
    data.positions.push_back(static_cast<std::int32_t>(j));
  }
  for (bool given : {false, true}) {
    const auto sums = run(*device, {1, 1, 32, n, 1, false, given}, data);
    for (std::int64_t j = 0; j < n; ++j) {
      const double wanted = std::exp2(-exponent[j]) / 2;  // the last key has as much as the first
      EXPECT_NEAR(sums[j], wanted, 1e-4 * wanted + 0x1p-148) << j;
    }
  }
}

TEST_P(ColumnSums, ThreadsDoNotChangeResults) {
  if (!GetParam().has_threads) GTEST_SKIP() << "no threads to choose";
  for (std::int64_t rows : {8, 700}) {
    const Case c{4, 2, 64, 700, rows};
    const Data data = inputs(c);
    const auto one = bits(run(*make(1), c, data));
    EXPECT_EQ(one, bits(run(*make(2), c, data))) << c;
    EXPECT_EQ(one, bits(run(*make(3), c, data))) << c;
  }
}

}  // namespace
}  // namespace fastkv::test
