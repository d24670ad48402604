// Devices that compute in bfloat16, against the processor in float32 on the same rounded inputs. A
// result may be off by what rounding it costs, twice.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "fastkv/error.h"
#include "ops/op_test.h"

namespace fastkv::test {
namespace {

constexpr double rounding = 1.0 / 256;  // to a bfloat16: what it is off by at most, of the number

class Bf16Device : public OpTest {
 protected:
  void SetUp() override {
    if (!has_cuda_device()) GTEST_SKIP() << "no device that computes in bfloat16";
    device_ = make_cuda_device({.ordinal = 0, .activations = DType::bf16});
    cpu_ = make_cpu_device({.threads = 2, .fast_bf16 = false});
  }
  std::vector<float> numbers(std::int64_t count, float deviation = 1) {
    return rounded(normal(count, deviation), DType::bf16);
  }

  std::unique_ptr<Device> device_, cpu_;
};
INSTANTIATE_TEST_SUITE_P(Cuda, Bf16Device, testing::Values(DeviceCase{"bf16", {}, false}),
                         [](const auto& tested) { return tested.param.name; });

/// The same numbers on both devices.
struct Twin {
  Twin(Device& device, Device& cpu, DType type, Shape shape, const std::vector<float>& values,
       std::int64_t gap = 8)
      : narrow(device, type, shape, gap),
        // A vector has no rows to be apart.
        wide(cpu, DType::f32, shape, shape.rank() == 1 ? 0 : 3) {
    put(device, narrow, values);
    put(cpu, wide, values);
  }
  Padded narrow, wide;
};

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

Matrix one_part(const View& view) {
  Matrix matrix;
  matrix.part[0] = view;
  matrix.parts = 1;
  return matrix;
}

TEST_P(Bf16Device, ProductsOfFewAndManyRows) {
  for (std::int64_t rows : {1, 2, 3, 5, 8, 9, 33, 300}) {
    for (std::int64_t depth : {64, 192, 256, 1152, 4096, 14336}) {
      for (std::int64_t outputs : {8, 16, 24, 1000}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << depth << " x " << outputs);
        const float size = 1 / std::sqrt(static_cast<float>(depth));
        const Twin x(*device_, *cpu_, DType::bf16, {rows, depth}, numbers(rows * depth));
        const Twin w(*device_, *cpu_, DType::bf16, {outputs, depth},
                     numbers(outputs * depth, size));
        for (DType type : {DType::bf16, DType::f32}) {
          for (auto store : {Device::Store::overwrite, Device::Store::accumulate}) {
            const Twin out(*device_, *cpu_, type, {rows, outputs}, numbers(rows * outputs));
            device_->linear(x.narrow, one_part(w.narrow), out.narrow, store);
            cpu_->linear(x.wide, one_part(w.wide), out.wide, store);
            // A library may round the product before it adds it to what is there.
            const bool rounds_twice = store == Device::Store::accumulate && type == DType::bf16;
            ASSERT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)),
                             type == DType::f32 ? 1e-4  // tensor cores cut off as they add
                             : rounds_twice     ? 2 * rounding
                                                : rounding,
                             type == DType::f32 ? 1
                             : rounds_twice     ? 2
                                                : 0.02));
            ASSERT_TRUE(out.narrow.gaps_untouched());
          }
        }
      }
    }
  }
}

TEST_P(Bf16Device, NormalisedProducts) {
  for (std::int64_t rows : {1, 4, 8, 40}) {
    for (std::int64_t depth : {128, 1024, 4096}) {
      const std::int64_t outputs = 272;
      SCOPED_TRACE(testing::Message() << rows << " x " << depth);
      const float size = 1 / std::sqrt(static_cast<float>(depth));
      const Twin x(*device_, *cpu_, DType::bf16, {rows, depth}, numbers(rows * depth, 3));
      const Twin w(*device_, *cpu_, DType::bf16, {outputs, depth}, numbers(outputs * depth, size));
      const Twin norm(*device_, *cpu_, DType::f32, {depth}, numbers(depth), 0);
      const std::vector<float> zeros(static_cast<std::size_t>(rows * depth));
      const Twin scratch(*device_, *cpu_, DType::bf16, {rows, depth}, zeros);
      const Twin both(*device_, *cpu_, DType::bf16, {rows, outputs},
                      std::vector<float>(static_cast<std::size_t>(rows * outputs)));
      const Twin out(*device_, *cpu_, DType::bf16, {rows, outputs}, numbers(rows * outputs));
      device_->norm_linear(x.narrow, norm.narrow, 1e-5F, one_part(w.narrow), out.narrow,
                           scratch.narrow);
      cpu_->norm_linear(x.wide, norm.wide, 1e-5F, one_part(w.wide), out.wide, scratch.wide);
      // The normalised row is rounded, too: its terms' errors add up like a random walk.
      EXPECT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)), rounding, 3));
      const Twin gated(*device_, *cpu_, DType::bf16, {rows, outputs / 2},
                       numbers(rows * outputs / 2));
      device_->norm_gated_linear(x.narrow, norm.narrow, 1e-5F, one_part(w.narrow), gated.narrow,
                                 scratch.narrow, both.narrow);
      cpu_->norm_gated_linear(x.wide, norm.wide, 1e-5F, one_part(w.wide), gated.wide, scratch.wide,
                              both.wide);
      EXPECT_TRUE(
          near(get(*device_, gated.narrow), doubles(get(*cpu_, gated.wide)), 3 * rounding, 2));
      EXPECT_TRUE(gated.narrow.gaps_untouched());
    }
  }
}

TEST_P(Bf16Device, GatedProductsOfManyRows) {
  // Some fill the 132 multiprocessors of an H100, so that a kernel for many rows takes them: once
  // and twice, with rows and outputs to spare, with more rows than are worked on together.
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{255, 136},  {256, 8440},  {510, 4216},
                                                          {700, 2816}, {1000, 4224}, {2800, 768}};
  for (const auto& [rows, outputs] : shapes) {
    for (std::int64_t depth : {64, 200, 1024}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << depth << " x " << outputs);
      const float size = 2 / std::sqrt(static_cast<float>(depth));
      const std::vector<float> values = numbers(rows * depth, 3);
      const Twin x(*device_, *cpu_, DType::f32, {rows, depth}, values);
      const Twin norm(*device_, *cpu_, DType::f32, {depth}, numbers(depth), 0);
      const Twin gate(*device_, *cpu_, DType::bf16, {outputs, depth},
                      numbers(outputs * depth, size));
      const Twin up(*device_, *cpu_, DType::bf16, {outputs, depth}, numbers(outputs * depth, size));
      const Twin scratch(*device_, *cpu_, DType::bf16, {rows, depth}, values);
      const std::vector<float> zeros(static_cast<std::size_t>(rows * 2 * outputs));
      const Twin both(*device_, *cpu_, DType::bf16, {rows, 2 * outputs}, zeros);
      const Twin out(*device_, *cpu_, DType::bf16, {rows, outputs}, numbers(rows * outputs));
      const auto two_parts = [](const View& first, const View& second) {
        Matrix matrix;
        matrix.part[0] = first;
        matrix.part[1] = second;
        matrix.parts = 2;
        return matrix;
      };
      device_->norm_gated_linear(x.narrow, norm.narrow, 1e-5F, two_parts(gate.narrow, up.narrow),
                                 out.narrow, scratch.narrow, both.narrow);
      // From the same rounded rows: what is compared are products and activation.
      device_->rms_norm(x.narrow, norm.narrow, 1e-5F, scratch.narrow);
      put(*cpu_, scratch.wide, get(*device_, scratch.narrow));
      cpu_->linear(scratch.wide, two_parts(gate.wide, up.wide), both.wide,
                   Device::Store::overwrite);
      cpu_->swiglu(both.wide, out.wide);
      // Gate and up may have been rounded on their way: three times with the result.
      ASSERT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)), 3 * rounding, 1));
      ASSERT_TRUE(out.narrow.gaps_untouched());
    }
  }
}

TEST_P(Bf16Device, Elementwise) {
  for (std::int64_t width : {7, 64, 4096, 4099, 5120}) {
    const std::int64_t rows = 70;
    const Twin x(*device_, *cpu_, DType::bf16, {rows, width}, numbers(rows * width));
    const Twin norm(*device_, *cpu_, DType::f32, {width}, numbers(width), 0);
    const Twin out(*device_, *cpu_, DType::bf16, {rows, width}, numbers(rows * width));
    device_->rms_norm(x.narrow, norm.narrow, 1e-5F, out.narrow);
    cpu_->rms_norm(x.wide, norm.wide, 1e-5F, out.wide);
    EXPECT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)), rounding, 0.01));
    EXPECT_TRUE(out.narrow.gaps_untouched());

    const Twin both(*device_, *cpu_, DType::bf16, {rows, 2 * width}, numbers(rows * 2 * width, 3));
    device_->swiglu(both.narrow, out.narrow);
    cpu_->swiglu(both.wide, out.wide);
    EXPECT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)), rounding, 0.01));
  }
  for (std::int64_t rows : {3, 2000}) {
    const std::int64_t heads = 3, dim = 64;
    std::vector<std::int32_t> at;
    for (std::int64_t i = 0; i < rows; ++i) at.push_back(static_cast<std::int32_t>(i * 65));
    std::vector<float> frequency;
    for (int i = 0; i < dim / 2; ++i)
      frequency.push_back(static_cast<float>(std::pow(5e5, -2.0 * i / static_cast<double>(dim))));
    const auto values = numbers(rows * heads * dim);
    const Twin x(*device_, *cpu_, DType::bf16, {rows, heads, dim}, values);
    const Twin wide(*device_, *cpu_, DType::f32, {rows, heads, dim}, values);
    const Twin once(*device_, *cpu_, DType::bf16, {rows, heads, dim}, values);
    const Twin f(*device_, *cpu_, DType::f32, {dim / 2}, frequency, 0);
    Padded here(*device_, DType::i32, {rows}, 0), there(*cpu_, DType::i32, {rows}, 0);
    put(*device_, here, at);
    put(*cpu_, there, at);
    device_->rope(x.narrow, heads - 1, here, f.narrow, x.narrow);
    cpu_->rope(x.wide, heads - 1, there, f.wide, x.wide);
    EXPECT_TRUE(near(get(*device_, x.narrow), doubles(get(*cpu_, x.wide)), rounding, 0.01));
    device_->rope(wide.narrow, heads - 1, here, f.narrow, once.narrow);
    cpu_->rope(wide.wide, heads - 1, there, f.wide, once.wide);
    EXPECT_TRUE(near(get(*device_, once.narrow), doubles(get(*cpu_, once.wide)), rounding, 0.01));
    EXPECT_TRUE(once.narrow.gaps_untouched());
  }
}

struct AttentionCase {
  std::int64_t query_heads, kv_heads, dim;
  std::vector<std::int64_t> rows;                 // of each segment
  std::vector<std::vector<std::int64_t>> cached;  // of each segment: entries of each head, or none
  std::int64_t window = 0;
};

class Bf16Attention : public Bf16Device {
 protected:
  /// A cache of random entries on both devices.
  struct Caches {
    std::vector<Tensor> pages;
    std::vector<CachedPages> layers;  // device, processor
  };

  void fill(Caches& caches, const AttentionCase& c, const std::vector<std::int64_t>& lengths,
            const PageLayout& layout, std::int32_t& next) {
    std::vector<std::vector<std::byte*>> tables[2];
    std::vector<std::int32_t> counts;
    for (std::int64_t length : lengths) {
      counts.push_back(static_cast<std::int32_t>(length));
      std::vector<std::byte*> head[2];
      // With room for two entries more.
      for (std::int64_t first = 0; first < length + 2; first += layout.page_tokens) {
        std::vector<std::uint16_t> page(layout.bytes() / 2, 0xffff);  // NaN behind the end
        const std::int64_t used = std::clamp<std::int64_t>(length - first, 0, layout.page_tokens);
        for (std::int64_t block : {std::int64_t{0}, layout.page_tokens * c.dim}) {
          const auto values = numbers(used * c.dim);
          for (std::int64_t i = 0; i < used * c.dim; ++i) {
            std::uint32_t word;
            std::memcpy(&word, &values[static_cast<std::size_t>(i)], 4);
            page[static_cast<std::size_t>(block + i)] = static_cast<std::uint16_t>(word >> 16);
          }
        }
        auto* positions = reinterpret_cast<std::int32_t*>(
            reinterpret_cast<std::byte*>(page.data()) + layout.position_offset());
        for (std::int64_t i = 0; i < used; ++i)
          positions[i] = static_cast<std::int32_t>(2 * (first + i));
        for (int d = 0; d < 2; ++d) {
          Device& device = d == 0 ? *device_ : *cpu_;
          caches.pages.push_back(
              device.empty(DType::i32, {static_cast<std::int64_t>(layout.bytes() / 4)}));
          device.upload(page.data(), caches.pages.back());
          head[d].push_back(static_cast<std::byte*>(caches.pages.back().view().data));
        }
      }
      next = std::max(next, static_cast<std::int32_t>(2 * length));
      for (int d = 0; d < 2; ++d) tables[d].push_back(head[d]);
    }
    caches.layers.emplace_back(*device_, tables[0], counts);
    caches.layers.emplace_back(*cpu_, tables[1], counts);
  }

  void check(const AttentionCase& c, bool log_sum_exp = false, bool rotated = true) {
    std::int64_t n = 0;
    for (std::int64_t rows : c.rows) n += rows;
    const std::int64_t width = (c.query_heads + 2 * c.kv_heads) * c.dim;
    const Twin qkv(*device_, *cpu_, DType::bf16, {n, width}, numbers(n * width));
    const Twin out(*device_, *cpu_, DType::bf16, {n, c.query_heads * c.dim},
                   numbers(n * c.query_heads * c.dim));
    const Twin lse(*device_, *cpu_, DType::f32, {n, c.query_heads}, numbers(n * c.query_heads), 0);
    const PageLayout layout{.page_tokens = 64, .head_dim = c.dim, .type = DType::bf16};
    std::vector<Caches> caches(c.rows.size());
    std::vector<std::int32_t> at;
    std::vector<AttentionSegment> segments[2];
    for (std::size_t s = 0; s < c.rows.size(); ++s) {
      std::int32_t next = 0;
      if (!c.cached.empty() && !c.cached[s].empty()) fill(caches[s], c, c.cached[s], layout, next);
      for (int d = 0; d < 2; ++d) {
        segments[d].push_back({static_cast<std::int64_t>(at.size()), c.rows[s],
                               caches[s].layers.empty()
                                   ? CachedLayer{}
                                   : caches[s].layers[static_cast<std::size_t>(d)].layer()});
      }
      for (std::int64_t i = 0; i < c.rows[s]; ++i) {
        at.push_back(next);
        next += static_cast<std::int32_t>(whole(1, 3));
      }
    }
    Padded here(*device_, DType::i32, {n}, 0), there(*cpu_, DType::i32, {n}, 0);
    put(*device_, here, at);
    put(*cpu_, there, at);
    const bool steps =
        !c.cached.empty() &&
        std::all_of(c.rows.begin(), c.rows.end(), [](std::int64_t rows) { return rows == 1; });
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < c.dim / 2; ++i)
      frequency.push_back(static_cast<float>(
          std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(c.dim))));
    const Twin frequencies(*device_, *cpu_, DType::f32, {c.dim / 2}, frequency, 0);
    // A step also stores its rows: the second one sees what the first has stored. Whether queries
    // and keys that are to be rotated first stay as they were is not said.
    const int rounds = steps && rotated ? 2 : 1;
    for (int round = 0; round < rounds; ++round) {
      for (int d = 0; d < 2; ++d) {
        const View all = d == 0 ? View(qkv.narrow) : View(qkv.wide);
        const auto heads = [&](std::int64_t first, std::int64_t count) {
          return all.heads(first * c.dim, count, c.dim);
        };
        Device& device = d == 0 ? *device_ : *cpu_;
        AttentionArgs args{.q = heads(0, c.query_heads),
                           .k = heads(c.query_heads, c.kv_heads),
                           .v = heads(c.query_heads + c.kv_heads, c.kv_heads),
                           .positions = d == 0 ? here : there,
                           .segments = segments[d],
                           .layout = layout,
                           .sliding_window = c.window,
                           .out = d == 0 ? out.narrow : out.wide,
                           .log_sum_exp = !log_sum_exp ? View{}
                                          : d == 0     ? lse.narrow
                                                       : lse.wide};
        if (!steps) {
          device.attention(args);
          continue;
        }
        std::vector<Device::StoreArgs> stores;
        for (const AttentionSegment& s : segments[d]) {
          stores.push_back({.k = args.k,
                            .v = args.v,
                            .positions = args.positions,
                            .chosen = {},
                            .first = s.first_row,
                            .count = 1,
                            .cache = s.cached});
        }
        if (!rotated) args.rope_frequencies = d == 0 ? frequencies.narrow : frequencies.wide;
        device.attention_and_store(args, stores);
      }
      // Weights are rounded as well as results. Queries and keys that are rotated here are rounded
      // once more, both: of a few entries each logit counts.
      EXPECT_TRUE(near(get(*device_, out.narrow), doubles(get(*cpu_, out.wide)),
                       rotated ? rounding : 3 * rounding))
          << "round " << round;
      EXPECT_TRUE(out.narrow.gaps_untouched());
    }
    for (std::size_t s = 0; steps && s < caches.size(); ++s) {
      EXPECT_EQ(caches[s].layers[0].lengths(), caches[s].layers[1].lengths());
      EXPECT_EQ(caches[s].layers[0].lengths().front(), c.cached[s].front() + rounds);
    }
    if (log_sum_exp) {
      EXPECT_TRUE(near(get(*device_, lse.narrow), doubles(get(*cpu_, lse.wide)), 1e-4));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Cuda, Bf16Attention, testing::Values(DeviceCase{"bf16", {}, false}),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(Bf16Attention, FreshPrompts) {
  for (std::int64_t dim : {64, 128}) {
    for (std::int64_t n : {1, 2, 63, 64, 65, 127, 129, 200, 1000, 1537}) {
      for (std::int64_t group : {1, 4, 8}) {
        SCOPED_TRACE(testing::Message() << n << " rows, D " << dim << ", group " << group);
        check({2 * group, 2, dim, {n}, {}}, true);
      }
    }
    check({8, 2, dim, {700}, {}, 100}, true);
  }
  check({4, 2, 32, {100}, {}}, true);
}

TEST_P(Bf16Attention, Decoding) {
  for (std::int64_t dim : {64, 128}) {
    for (std::int64_t group : {1, 3, 4, 8, 16}) {
      SCOPED_TRACE(testing::Message() << "D " << dim << ", group " << group);
      const std::int64_t heads = 2;
      const std::vector<std::int64_t> ones(5, 1);
      check(
          {heads * group, heads, dim, ones, {{1, 2}, {15, 16}, {17, 63}, {64, 65}, {1000, 3000}}});
      check({heads * group, heads, dim, {1}, {{20000, 11}}});
      check({heads * group, heads, dim, ones, {{1, 2}, {15, 16}, {17, 63}, {64, 65}, {1000, 3000}}},
            false, /*rotated=*/false);
      check({heads * group,
             heads,
             dim,
             ones,
             {{1, 2}, {15, 16}, {17, 63}, {64, 65}, {1000, 3000}},
             101});
      // A cached head for each query head.
      std::vector<std::int64_t> ragged;
      for (std::int64_t h = 0; h < heads * group; ++h) ragged.push_back(whole(1, 300));
      check({heads * group, heads, dim, {1}, {ragged}});
    }
  }
}

TEST_P(Bf16Attention, RowsBehindACache) {
  check({8, 2, 64, {5, 1, 40}, {{100, 70}, {33, 1}, {64, 640}}});
  check({8, 2, 128, {70}, {{300, 200}}, 150});
}

TEST_P(Bf16Attention, ManySequences) {
  const std::vector<std::int64_t> ones(100, 1);
  std::vector<std::vector<std::int64_t>> cached;
  for (int i = 0; i < 100; ++i) cached.push_back({whole(1, 400), whole(1, 400)});
  check({8, 2, 64, ones, cached});
  // With a cached head for each of 512 query heads one launch cannot take as many sequences.
  const std::vector<std::int64_t> fewer(34, 1);
  cached.resize(fewer.size());
  for (auto& lengths : cached) lengths.assign(512, whole(1, 20));
  check({512, 32, 64, fewer, cached});
}

TEST_P(Bf16Attention, RefusesLargeHeads) {
  for (DType type : {DType::bf16, DType::f32}) {
    const auto width = std::int64_t{512};
    const Padded q(*device_, type, {3, 1, width}), out(*device_, type, {3, width});
    Padded positions(*device_, DType::i32, {3}, 0);
    put(*device_, positions, std::vector<std::int32_t>{0, 1, 2});
    const AttentionSegment segment{0, 3, {}};
    const AttentionArgs args{.q = q,
                             .k = q,
                             .v = q,
                             .positions = positions,
                             .segments = {&segment, 1},
                             .layout = {},
                             .out = out,
                             .log_sum_exp = {}};
    EXPECT_THROW(device_->attention(args), Error);
  }
}

TEST_P(Bf16Device, ColumnSums) {
  for (std::int64_t dim : {64, 128}) {
    for (std::int64_t n : {1, 20, 64, 333, 1500}) {
      for (std::int64_t rows : {std::int64_t{1}, std::int64_t{8}, n / 5, n}) {
        rows = std::clamp<std::int64_t>(rows, 1, n);
        for (std::int64_t window : {0, 90}) {
          SCOPED_TRACE(testing::Message()
                       << n << " keys, " << rows << " rows, D " << dim << ", window " << window);
          const std::int64_t query_heads = 8, kv_heads = 2;
          const Twin q(*device_, *cpu_, DType::bf16, {n, query_heads, dim},
                       numbers(n * query_heads * dim));
          const Twin k(*device_, *cpu_, DType::bf16, {n, kv_heads, dim},
                       numbers(n * kv_heads * dim));
          const Twin v(*device_, *cpu_, DType::bf16, {n, kv_heads, dim},
                       numbers(n * kv_heads * dim));
          const Twin out(*device_, *cpu_, DType::bf16, {n, query_heads * dim},
                         numbers(n * query_heads * dim));
          const Twin lse(*device_, *cpu_, DType::f32, {n, query_heads}, numbers(n * query_heads),
                         0);
          const Twin sums(*device_, *cpu_, DType::f32, {query_heads, n}, numbers(n * query_heads));
          std::vector<std::int32_t> at;
          for (std::int64_t i = 0; i < n; ++i) at.push_back(static_cast<std::int32_t>(2 * i));
          Padded here(*device_, DType::i32, {n}, 0), there(*cpu_, DType::i32, {n}, 0);
          put(*device_, here, at);
          put(*cpu_, there, at);
          const std::vector<float> weights = normal(rows);
          const AttentionSegment segment{0, n, {}};
          for (int d = 0; d < 2; ++d) {
            const auto of = [&](const Twin& twin) {
              return d == 0 ? View(twin.narrow) : View(twin.wide);
            };
            Device& device = d == 0 ? *device_ : *cpu_;
            const View positions = d == 0 ? here : there;
            device.attention({.q = of(q),
                              .k = of(k),
                              .v = of(v),
                              .positions = positions,
                              .segments = {&segment, 1},
                              .layout = {},
                              .sliding_window = window,
                              .out = of(out),
                              .log_sum_exp = of(lse)});
            device.column_sums({.q = of(q),
                                .k = of(k),
                                .positions = positions,
                                .rows = rows,
                                .row_weights = weights,
                                .sliding_window = window,
                                .log_sum_exp = of(lse),
                                .out = of(sums)});
          }
          ASSERT_TRUE(near(get(*device_, lse.narrow), doubles(get(*cpu_, lse.wide)), 1e-4));
          // Inputs are the same and products exact: only the order of additions differs.
          ASSERT_TRUE(near(get(*device_, sums.narrow), doubles(get(*cpu_, sums.wide)), 2e-4));
          ASSERT_TRUE(sums.narrow.gaps_untouched());
        }
      }
    }
  }
}

// Probabilities that float32 only holds with fewer digits keep their order: a method may have to
// choose among them.
TEST_P(Bf16Device, ColumnSumsBelowTheSmallestNormal) {
  const std::int64_t n = 33, dim = 64;
  std::vector<float> queries(n * dim, 0), keys(n * dim, 0), zeros(n * dim, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    queries[i * dim] = 16;
    if (i > 0) keys[i * dim] = -43 - 0.25F * static_cast<float>(i % 16);  // logits of -86 to -93.5
  }
  const Twin q(*device_, *cpu_, DType::bf16, {n, 1, dim}, queries);
  const Twin k(*device_, *cpu_, DType::bf16, {n, 1, dim}, keys);
  const Twin out(*device_, *cpu_, DType::bf16, {n, dim}, zeros);
  const Twin lse(*device_, *cpu_, DType::f32, {n, 1}, std::vector<float>(n, 0), 0);
  const Twin sums(*device_, *cpu_, DType::f32, {1, n}, std::vector<float>(n, 1));
  std::vector<std::int32_t> at(n);
  std::iota(at.begin(), at.end(), 0);
  Padded here(*device_, DType::i32, {n}, 0), there(*cpu_, DType::i32, {n}, 0);
  put(*device_, here, at);
  put(*cpu_, there, at);
  const AttentionSegment segment{0, n, {}};
  for (int d = 0; d < 2; ++d) {
    const auto of = [&](const Twin& twin) { return d == 0 ? View(twin.narrow) : View(twin.wide); };
    Device& device = d == 0 ? *device_ : *cpu_;
    device.attention({.q = of(q),
                      .k = of(k),
                      .v = of(k),
                      .positions = d == 0 ? here : there,
                      .segments = {&segment, 1},
                      .layout = {},
                      .out = of(out),
                      .log_sum_exp = of(lse)});
    device.column_sums({.q = of(q),
                        .k = of(k),
                        .positions = d == 0 ? here : there,
                        .rows = 8,
                        .row_weights = {},
                        .log_sum_exp = of(lse),
                        .out = of(sums)});
  }
  const std::vector<float> wide = get(*cpu_, sums.wide);
  EXPECT_LT(wide[20], 1e-37F);
  EXPECT_GT(wide[20], 0);
  EXPECT_TRUE(near(get(*device_, sums.narrow), doubles(wide), 1e-3, 1e-41));
}

}  // namespace
}  // namespace fastkv::test
