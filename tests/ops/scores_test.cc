#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/op_test.h"

namespace fastkv::test {
namespace {

class Scores : public OpTest {};
INSTANTIATE_FOR_DEVICES(Scores);

TEST_P(Scores, LastQueryDots) {
  const auto device = make();
  for (std::int64_t group : {1, 2, 4}) {
    for (std::int64_t tokens : {1, 8, 65}) {
      const std::int64_t heads = 2, dim = 32;
      const auto queries = normal(tokens * heads * group * dim),
                 keys = normal(tokens * heads * dim);
      Padded q(*device, DType::f32, {tokens, heads * group, dim}),
          k(*device, DType::f32, {tokens, heads, dim}), out(*device, DType::f32, {1, tokens});
      put(*device, q, queries);
      put(*device, k, keys);
      device->last_query_dots(q, k, out);
      std::vector<double> expected;
      for (std::int64_t j = 0; j < tokens; ++j) {
        double sum = 0;
        for (std::int64_t h = 0; h < heads * group; ++h)
          for (std::int64_t d = 0; d < dim; ++d)
            sum += double{queries[((tokens - 1) * heads * group + h) * dim + d]} *
                   keys[(j * heads + h / group) * dim + d];
        expected.push_back(sum);
      }
      EXPECT_TRUE(near(get(*device, out), expected, 2e-6, 10));
      EXPECT_TRUE(out.gaps_untouched());
    }
  }
}

TEST_P(Scores, PoolOnlyTheFirstColumns) {
  const auto device = make();
  for (std::int64_t n : {1, 2, 7, 8, 9, 65, 500}) {
    for (int kernel : {1, 3, 5, 7, 13}) {
      for (Pooling pooling : {Pooling::max, Pooling::average}) {
        const std::int64_t columns = std::max<std::int64_t>(1, n - 8);
        auto in = normal(3 * n);
        for (float& x : in) x -= 5;  // negative: a border of zeros would show in a maximum
        Padded scores(*device, DType::f32, {3, n}), out(*device, DType::f32, {3, n});
        put(*device, scores, in);
        device->pool(scores, columns, kernel, pooling, out);
        std::vector<double> expected(in.size(), std::nan(""));
        for (std::int64_t r = 0; r < 3; ++r) {
          for (std::int64_t j = 0; j < columns; ++j) {
            double sum = 0, highest = -1e30;
            for (std::int64_t i = j - kernel / 2; i <= j + kernel / 2; ++i) {
              if (i < 0 || i >= columns) continue;
              sum += in[r * n + i];
              highest = std::max(highest, double{in[r * n + i]});
            }
            expected[r * n + j] = pooling == Pooling::max ? highest : sum / kernel;
          }
        }
        EXPECT_TRUE(near(get(*device, out), expected, pooling == Pooling::max ? 0 : 1e-6))
            << n << " columns, kernel " << kernel;
        EXPECT_TRUE(out.gaps_untouched());
      }
    }
  }
}

TEST_P(Scores, SumGroups) {
  const auto device = make();
  for (std::int64_t group : {1, 2, 4}) {
    for (std::int64_t n : {1, 9, 500}) {
      const auto in = normal(3 * group * n);
      Padded scores(*device, DType::f32, {3 * group, n}), out(*device, DType::f32, {3, n});
      put(*device, scores, in);
      device->sum_groups(scores, group, out);
      std::vector<double> expected;
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (std::int64_t m = 0; m < group; ++m) sum += in[(r * group + m) * n + j];
          expected.push_back(sum);
        }
      }
      EXPECT_TRUE(near(get(*device, out), expected, 1e-6));
      EXPECT_TRUE(out.gaps_untouched());
    }
  }
}

class TopK : public OpTest {
 protected:
  /// The definition: a stable sort, NaN last.
  static std::vector<std::int32_t> expected(const std::vector<float>& scores, std::int64_t count,
                                            std::int64_t first, std::int64_t recent) {
    const auto n = static_cast<std::int64_t>(scores.size());
    std::vector<std::int32_t> between(static_cast<std::size_t>(n - first - recent));
    std::iota(between.begin(), between.end(), static_cast<std::int32_t>(first));
    std::stable_sort(between.begin(), between.end(), [&](std::int32_t a, std::int32_t b) {
      if (std::isnan(scores[b])) return !std::isnan(scores[a]);
      return scores[a] > scores[b];
    });
    between.resize(static_cast<std::size_t>(count - first - recent));
    for (std::int64_t j = 0; j < first; ++j) between.push_back(static_cast<std::int32_t>(j));
    for (std::int64_t j = n - recent; j < n; ++j) between.push_back(static_cast<std::int32_t>(j));
    std::sort(between.begin(), between.end());
    return between;
  }

  void check(Device& device, const std::vector<float>& row, std::int64_t count, std::int64_t first,
             std::int64_t recent) {
    const auto n = static_cast<std::int64_t>(row.size());
    std::vector<float> both = row;  // two rows: the second is the first reversed
    both.insert(both.end(), row.rbegin(), row.rend());
    Padded scores(device, DType::f32, {2, n}), out(device, DType::i32, {2, count});
    put(device, scores, both);
    device.top_k(scores, count, first, recent, out);
    auto wanted = expected(row, count, first, recent);
    const auto second = expected({row.rbegin(), row.rend()}, count, first, recent);
    wanted.insert(wanted.end(), second.begin(), second.end());
    EXPECT_EQ(get_ints(device, out), wanted)
        << n << " columns, " << count << " of them, " << first << " first, " << recent << " recent";
    EXPECT_TRUE(out.gaps_untouched());
  }
};
INSTANTIATE_FOR_DEVICES(TopK);

TEST_P(TopK, RandomScoresAndBudgets) {
  const auto device = make();
  for (std::int64_t n : {1, 2, 7, 8, 9, 63, 64, 65, 500, 5000}) {
    for (int repeat = 0; repeat < 8; ++repeat) {
      const std::int64_t count = whole(0, n);
      const std::int64_t first = whole(0, count);
      const std::int64_t recent = whole(0, count - first);
      check(*device, normal(n), count, first, recent);
    }
    check(*device, normal(n), n, 0, 0);
  }
}

TEST_P(TopK, TiesGoToTheLowerColumn) {
  const auto device = make();
  for (std::int64_t n : {9, 64, 500}) {
    for (std::int64_t count : {1, 5, 8}) {
      check(*device, std::vector<float>(static_cast<std::size_t>(n), 0.25F), count, 0, 0);
      std::vector<float> plateaus;
      for (std::int64_t j = 0; j < n; ++j) plateaus.push_back(static_cast<float>(whole(0, 2)));
      check(*device, plateaus, count, 0, 1);
      std::vector<float> zeros;  // both zeros are equal
      for (std::int64_t j = 0; j < n; ++j) zeros.push_back(whole(0, 1) == 0 ? 0.0F : -0.0F);
      check(*device, zeros, count, 0, 0);
    }
  }
}

TEST_P(TopK, InfinitiesAndNaN) {
  const auto device = make();
  const float infinity = std::numeric_limits<float>::infinity();
  auto row = normal(70);
  row[3] = row[40] = infinity;
  row[5] = -infinity;
  row[11] = std::numeric_limits<float>::quiet_NaN();
  row[12] = -std::numeric_limits<float>::quiet_NaN();
  row[20] = std::numeric_limits<float>::max();
  row[21] = std::numeric_limits<float>::denorm_min();
  for (std::int64_t count : {1, 2, 3, 10, 66, 67, 68, 69, 70}) check(*device, row, count, 0, 0);
}

}  // namespace
}  // namespace fastkv::test
