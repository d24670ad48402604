#include <cmath>
#include <cstring>
#include <limits>

#include "ops/convert.h"
#include "ops/op_test.h"

namespace fastkv::test {
namespace {

struct Segment {
  std::int64_t rows = 0;
  std::vector<std::int64_t> cached;  // entries of each of the C heads; empty: nothing cached
};

struct Case {
  std::int64_t query_heads, kv_heads, dim;
  std::vector<Segment> segments;
  std::int64_t page_tokens = 16;
  DType type = DType::f32;
  std::int64_t window = 0;
  float deviation = 1;  // of queries: large values make the softmax nearly 0 or 1

  std::int64_t rows() const {
    std::int64_t n = 0;
    for (const Segment& segment : segments) n += segment.rows;
    return n;
  }
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  out << "Hq " << c.query_heads << " Hkv " << c.kv_heads << " D " << c.dim << " pages of "
      << c.page_tokens << " " << name_of(c.type) << " window " << c.window << " segments";
  for (const Segment& segment : c.segments) {
    out << " [" << segment.rows << " rows, cached";
    for (std::int64_t length : segment.cached) out << " " << length;
    out << "]";
  }
  return out;
}

struct CachedData {
  std::vector<float> keys, values;  // (length, D)
  std::vector<std::int32_t> positions;
};

struct Data {
  std::vector<float> q, k, v;  // (n, Hq * D), (n, Hkv * D), (n, Hkv * D)
  std::vector<std::int32_t> positions;
  std::vector<std::vector<CachedData>> cached;  // per segment and cached head
};

struct Result {
  std::vector<float> out, log_sum_exp;
};

class Attention : public OpTest {
 protected:
  Data inputs(const Case& c) {
    Data data;
    data.q = normal(c.rows() * c.query_heads * c.dim, c.deviation);
    data.k = normal(c.rows() * c.kv_heads * c.dim);
    data.v = normal(c.rows() * c.kv_heads * c.dim);
    if (!data.k.empty()) data.k[data.k.size() / 2] = 30;  // an outlier
    for (const Segment& segment : c.segments) {
      std::int32_t next = 0;
      data.cached.emplace_back();
      for (std::int64_t length : segment.cached) {
        CachedData head;
        head.keys = rounded(normal(length * c.dim), c.type);
        head.values = rounded(normal(length * c.dim), c.type);
        std::int32_t position = 0;
        for (std::int64_t i = 0; i < length; ++i) {
          position += static_cast<std::int32_t>(whole(1, 3));
          head.positions.push_back(position);
        }
        next = std::max(next, position + 1);
        data.cached.back().push_back(std::move(head));
      }
      // Some rows are missing, as after tokens were dropped.
      for (std::int64_t i = 0; i < segment.rows; ++i) {
        data.positions.push_back(next);
        next += i % 5 == 4 ? 2 : 1;
      }
    }
    return data;
  }

  static Result run(Device& device, const Case& c, const Data& data) {
    const std::int64_t n = c.rows();
    // Queries, keys and values lie side by side, as a projection of all three leaves them.
    Padded qkv(device, DType::f32, {n, (c.query_heads + 2 * c.kv_heads) * c.dim});
    Padded positions(device, DType::i32, {n}, 0),
        out(device, DType::f32, {n, c.query_heads * c.dim}),
        log_sum_exp(device, DType::f32, {n, c.query_heads});
    const View all = qkv;
    const View q = all.heads(0, c.query_heads, c.dim);
    const View k = all.heads(c.query_heads * c.dim, c.kv_heads, c.dim);
    const View v = all.heads((c.query_heads + c.kv_heads) * c.dim, c.kv_heads, c.dim);
    put(device, q, data.q);
    put(device, k, data.k);
    put(device, v, data.v);
    put(device, positions, data.positions);

    const PageLayout layout{.page_tokens = c.page_tokens, .head_dim = c.dim, .type = c.type};
    std::vector<Tensor> memory;
    std::vector<CachedPages> caches;
    std::vector<AttentionSegment> segments;
    std::int64_t first = 0;
    for (std::size_t s = 0; s < c.segments.size(); ++s) {
      std::vector<std::vector<std::byte*>> pages;
      std::vector<std::int32_t> lengths;
      for (const CachedData& head : data.cached[s]) {
        pages.push_back(upload_pages(device, layout, head, memory));
        lengths.push_back(static_cast<std::int32_t>(head.positions.size()));
      }
      caches.emplace_back(device, pages, lengths);
      segments.push_back({first, c.segments[s].rows, caches.back().layer()});
      first += c.segments[s].rows;
    }
    device.attention({.q = q,
                      .k = k,
                      .v = v,
                      .positions = positions,
                      .segments = segments,
                      .layout = layout,
                      .sliding_window = c.window,
                      .out = out,
                      .log_sum_exp = log_sum_exp});
    EXPECT_TRUE(out.gaps_untouched());
    EXPECT_TRUE(log_sum_exp.gaps_untouched());
    return {get(device, out), get(device, log_sum_exp)};
  }

  static std::vector<std::byte*> upload_pages(Device& device, const PageLayout& layout,
                                              const CachedData& head, std::vector<Tensor>& memory) {
    std::vector<std::byte*> pages;
    const auto length = static_cast<std::int64_t>(head.positions.size());
    for (std::int64_t first = 0; first < length; first += layout.page_tokens) {
      // Entries past the end are NaN: nobody may read them into a result.
      std::vector<std::byte> page(layout.bytes(), std::byte{0xff});
      for (std::int64_t slot = 0; slot < layout.page_tokens && first + slot < length; ++slot) {
        for (std::int64_t d = 0; d < layout.head_dim; ++d) {
          const std::int64_t from = (first + slot) * layout.head_dim + d;
          write(page.data(), layout, slot * layout.head_dim + d, head.keys[from]);
          write(page.data() + layout.value_offset(), layout, slot * layout.head_dim + d,
                head.values[from]);
        }
        std::memcpy(page.data() + layout.position_offset() + slot * 4,
                    &head.positions[first + slot], 4);
      }
      memory.push_back(device.empty(DType::i32, {static_cast<std::int64_t>(layout.bytes() / 4)}));
      device.upload(page.data(), memory.back());
      pages.push_back(static_cast<std::byte*>(memory.back().view().data));
    }
    return pages;
  }

  static void write(std::byte* block, const PageLayout& layout, std::int64_t at, float value) {
    if (layout.type == DType::f32) {
      std::memcpy(block + at * 4, &value, 4);
    } else {
      const std::uint16_t half = bf16_from_float(value);
      std::memcpy(block + at * 2, &half, 2);
    }
  }
};
INSTANTIATE_FOR_DEVICES(Attention);

/// The definition: all visible keys of one query, softmax, weighted mean of their values.
void expect_defined(const Case& c, const Data& data, const Result& result, double tolerance) {
  std::vector<double> out, log_sum_exp;
  std::int64_t first = 0;
  for (std::size_t s = 0; s < c.segments.size(); ++s) {
    const std::int64_t rows = c.segments[s].rows;
    for (std::int64_t row = first; row < first + rows; ++row) {
      for (std::int64_t h = 0; h < c.query_heads; ++h) {
        const float* q = &data.q[(row * c.query_heads + h) * c.dim];
        const std::int64_t kv_head = h / (c.query_heads / c.kv_heads);
        std::vector<const float*> keys, values;
        const auto see = [&](std::int32_t position, const float* k, const float* v) {
          if (c.window > 0 && position <= data.positions[row] - c.window) return;
          keys.push_back(k);
          values.push_back(v);
        };
        if (!data.cached[s].empty()) {
          const auto heads = static_cast<std::int64_t>(data.cached[s].size());
          const CachedData& cached = data.cached[s][h / (c.query_heads / heads)];
          for (std::size_t e = 0; e < cached.positions.size(); ++e)
            see(cached.positions[e], &cached.keys[e * c.dim], &cached.values[e * c.dim]);
        }
        for (std::int64_t j = first; j <= row; ++j) {
          const std::int64_t at = (j * c.kv_heads + kv_head) * c.dim;
          see(data.positions[j], &data.k[at], &data.v[at]);
        }
        std::vector<double> logits;
        for (const float* k : keys) {
          double dot = 0;
          for (std::int64_t d = 0; d < c.dim; ++d) dot += double{q[d]} * k[d];
          logits.push_back(dot / std::sqrt(static_cast<double>(c.dim)));
        }
        const double highest = *std::max_element(logits.begin(), logits.end());
        double sum = 0;
        std::vector<double> mean(c.dim);
        for (std::size_t j = 0; j < logits.size(); ++j) {
          const double p = std::exp(logits[j] - highest);
          sum += p;
          for (std::int64_t d = 0; d < c.dim; ++d) mean[d] += p * values[j][d];
        }
        for (double m : mean) out.push_back(m / sum);
        log_sum_exp.push_back(highest + std::log(sum));
      }
    }
    first += rows;
  }
  EXPECT_TRUE(near(result.out, out, tolerance)) << c;
  EXPECT_TRUE(near(result.log_sum_exp, log_sum_exp, tolerance)) << c;
}

TEST_P(Attention, FreshPromptsOfOddLengths) {
  const auto device = make();
  for (std::int64_t n : {1, 2, 7, 8, 9, 63, 64, 65, 129, 500}) {
    const Case c{4, 2, 32, {{n, {}}}};
    const Data data = inputs(c);
    expect_defined(c, data, run(*device, c, data), 1e-5);
  }
}

TEST_P(Attention, HeadSizesAndGroups) {
  const auto device = make();
  for (std::int64_t dim : {32, 64, 96, 128}) {
    for (std::int64_t group : {1, 2, 3, 4, 8}) {
      const Case c{2 * group, 2, dim, {{whole(60, 80), {}}, {3, {70, 33}}, {1, {1, 150}}}};
      const Data data = inputs(c);
      expect_defined(c, data, run(*device, c, data), 1e-5);
    }
  }
}

TEST_P(Attention, RaggedCachesAroundPages) {
  const auto device = make();
  for (DType type : {DType::f32, DType::bf16}) {
    for (std::int64_t page : {1, 5, 16, 64, 256}) {
      for (std::int64_t rows : {1, 2, 40}) {
        const Case c{
            4,
            2,
            64,
            {{rows, {page - 1, page}}, {1, {page + 1, 2 * page}}, {rows, {0, 3 * page + 2}}, {2, {}}},
            page,
            type};
        const Data data = inputs(c);
        expect_defined(c, data, run(*device, c, data), 1e-5);
      }
    }
  }
}

TEST_P(Attention, CachePerQueryHead) {
  const auto device = make();
  for (std::int64_t rows : {1, 9, 70}) {
    const Case c{4, 2, 32, {{rows, {5, 0, 64, 100}}, {1, {1, 2, 3, 4}}}, 32, DType::bf16};
    const Data data = inputs(c);
    expect_defined(c, data, run(*device, c, data), 1e-5);
  }
}

TEST_P(Attention, LongCacheIsSplitAndMerged) {
  const auto device = make();
  for (DType type : {DType::f32, DType::bf16}) {
    const Case c{4, 1, 64, {{1, {5000}}, {3, {4097}}, {1, {2}}}, 128, type};
    const Data data = inputs(c);
    expect_defined(c, data, run(*device, c, data), 1e-5);
  }
}

TEST_P(Attention, SlidingWindow) {
  const auto device = make();
  for (std::int64_t window : {1, 7, 64, 100}) {
    const Case c{4, 2, 32, {{300, {}}, {40, {90, 50}}, {1, {2000, 10}}}, 16, DType::f32, window};
    const Data data = inputs(c);
    expect_defined(c, data, run(*device, c, data), 1e-5);
  }
}

TEST_P(Attention, SoftmaxOfAlmostZeroOrOne) {
  const auto device = make();
  for (float deviation : {30.0F, 300.0F}) {
    const Case c{4, 2, 64, {{150, {}}, {1, {300, 40}}}, 16, DType::f32, 0, deviation};
    const Data data = inputs(c);
    // Logits of about `deviation` * 10 have float32 errors that exp() turns into relative ones.
    expect_defined(c, data, run(*device, c, data), 4e-6 * deviation);
  }
}

TEST_P(Attention, WithoutLogSumExp) {
  const auto device = make();
  const std::int64_t n = 20;
  const auto values = normal(n * 8);
  Padded qkv(*device, DType::f32, {n, 3 * 8}), positions(*device, DType::i32, {n}, 0),
      out(*device, DType::f32, {n, 8});
  const View all = qkv;
  std::vector<std::int32_t> at(n);
  for (std::int32_t i = 0; i < n; ++i) at[static_cast<std::size_t>(i)] = i;
  put(*device, positions, at);
  put(*device, all.heads(0, 1, 8), std::vector<float>(n * 8, 0.0F));
  put(*device, all.heads(8, 1, 8), normal(n * 8));
  put(*device, all.heads(16, 1, 8), values);
  const AttentionSegment segment{0, n, {}};
  device->attention({.q = all.heads(0, 1, 8),
                     .k = all.heads(8, 1, 8),
                     .v = all.heads(16, 1, 8),
                     .positions = positions,
                     .segments = {&segment, 1},
                     .layout = {},
                     .sliding_window = 0,
                     .out = out,
                     .log_sum_exp = {}});
  // Queries of zero see all keys alike: the running mean of the values.
  std::vector<double> expected;
  std::vector<double> sum(8);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t d = 0; d < 8; ++d) {
      sum[d] += values[i * 8 + d];
      expected.push_back(sum[d] / static_cast<double>(i + 1));
    }
  }
  EXPECT_TRUE(near(get(*device, out), expected, 1e-6));
}

TEST_P(Attention, ThreadsDoNotChangeResults) {
  if (!GetParam().has_threads) GTEST_SKIP() << "no threads to choose";
  for (std::int64_t rows : {1, 5, 300}) {
    const Case c{8, 2, 64, {{rows, {3000, 100}}, {1, {700, 20}}}, 64, DType::bf16};
    const Data data = inputs(c);
    const Result one = run(*make(1), c, data);
    for (int threads : {2, 3}) {
      const Result more = run(*make(threads), c, data);
      EXPECT_EQ(bits(one.out), bits(more.out)) << c;
      EXPECT_EQ(bits(one.log_sum_exp), bits(more.log_sum_exp)) << c;
    }
  }
}

}  // namespace
}  // namespace fastkv::test
