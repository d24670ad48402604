#include <cstring>

#include "core/error.h"
#include "ops/convert.h"
#include "ops/op_test.h"

namespace fastkv::test {
namespace {

class Rows : public OpTest {};
INSTANTIATE_FOR_DEVICES(Rows);

TEST_P(Rows, EmptyIsAlignedAndRefusesTheImpossible) {
  const auto device = make();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(device->empty(DType::f32, {3}).view().data) % 64, 0U);
  EXPECT_TRUE(device->empty(DType::bf16, {0, 5}));
  try {
    device->empty(DType::f32, {std::int64_t{1} << 50});
    FAIL() << "four petabytes were given";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("4503599627370496"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(device->description().empty());
}

TEST_P(Rows, EmbedConvertsToFloat) {
  const auto device = make();
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (std::int64_t width : {1, 7, 64, 65}) {
      const auto table = rounded(normal(11 * width), type);
      const std::vector<std::int32_t> ids = {10, 0, 3, 3, 7};
      Padded weights(*device, type, {11, width}), rows(*device, DType::i32, {5}, 0),
          out(*device, DType::f32, {5, width});
      put(*device, weights, table);
      put(*device, rows, ids);
      device->embed(rows, weights, out);
      std::vector<double> expected;
      for (std::int32_t id : ids)
        expected.insert(expected.end(), table.begin() + id * width,
                        table.begin() + (id + 1) * width);
      EXPECT_TRUE(near(get(*device, out), expected, 0)) << name_of(type) << " " << width;
      EXPECT_TRUE(out.gaps_untouched());
    }
  }
}

TEST_P(Rows, GatherOfAnyRank) {
  const auto device = make();
  const auto x = normal(9 * 6);
  const std::vector<std::int32_t> chosen = {0, 2, 8};
  Padded in(*device, DType::f32, {9, 2, 3}), rows(*device, DType::i32, {3}, 0),
      out(*device, DType::f32, {3, 2, 3}, 1);
  put(*device, in, x);
  put(*device, rows, chosen);
  device->gather_rows(in, rows, out);
  std::vector<double> expected;
  for (std::int32_t row : chosen)
    expected.insert(expected.end(), x.begin() + row * 6, x.begin() + row * 6 + 6);
  EXPECT_TRUE(near(get(*device, out), expected, 0));
  EXPECT_TRUE(out.gaps_untouched());

  Padded positions(*device, DType::i32, {9}, 0), kept(*device, DType::i32, {3}, 0);
  put(*device, positions, std::vector<std::int32_t>{5, 6, 8, 9, 12, 40, 41, 50, 99});
  device->gather_rows(positions, rows, kept);
  EXPECT_EQ(get_ints(*device, kept), (std::vector<std::int32_t>{5, 8, 99}));
}

TEST_P(Rows, StoreAppendsAcrossPages) {
  const auto device = make();
  for (DType type : {DType::f32, DType::bf16}) {
    const std::int64_t tokens = 13, heads = 3, dim = 5;
    const PageLayout layout{.page_tokens = 4, .head_dim = dim, .type = type};
    const auto keys = rounded(normal(tokens * heads * dim), type);
    const auto values = rounded(normal(tokens * heads * dim), type);
    std::vector<std::int32_t> at(tokens);
    for (std::int64_t i = 0; i < tokens; ++i) at[i] = static_cast<std::int32_t>(100 + 3 * i);
    Padded k(*device, DType::f32, {tokens, heads, dim}),
        v(*device, DType::f32, {tokens, heads, dim}), positions(*device, DType::i32, {tokens}, 0),
        rows(*device, DType::i32, {heads, 6}, 0);
    put(*device, k, keys);
    put(*device, v, values);
    put(*device, positions, at);
    const std::vector<std::int32_t> chosen = {0, 2, 3, 7, 11, 12};
    std::vector<std::int32_t> chosen_of_heads;
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int32_t row : chosen) chosen_of_heads.push_back(h == 1 ? row : 12 - row);
    }
    put(*device, rows, chosen_of_heads);

    std::vector<Tensor> memory;
    std::vector<std::byte*> pages;
    for (int p = 0; p < 3; ++p) {
      memory.push_back(device->empty(DType::i32, {static_cast<std::int64_t>(layout.bytes() / 4)}));
      pages.push_back(static_cast<std::byte*>(memory.back().view().data));
    }
    // First three consecutive rows, then six chosen ones, so that the second call starts in the
    // middle of a page and fills two more.
    // First three consecutive rows, then six chosen ones, so that the second call starts in the
    // middle of a page and fills two more. One cached head a KV head; the second is looked at.
    std::vector<std::vector<std::byte*>> table;
    std::vector<Tensor> others;
    for (std::int64_t h = 0; h < heads; ++h) {
      table.push_back(pages);
      for (std::byte*& page : table.back()) {
        if (h == 1) continue;
        others.push_back(
            device->empty(DType::i32, {static_cast<std::int64_t>(layout.bytes() / 4)}));
        page = static_cast<std::byte*>(others.back().view().data);
      }
    }
    const CachedPages cache(*device, table, {0, 0, 0});
    Device::StoreArgs args{.k = k,
                           .v = v,
                           .positions = positions,
                           .chosen = {},
                           .first = 4,
                           .count = 3,
                           .cache = cache.layer()};
    device->store({&args, 1}, layout);
    args.chosen = rows;
    args.count = 6;
    device->store({&args, 1}, layout);
    EXPECT_EQ(cache.lengths(), (std::vector<std::int32_t>{9, 9, 9}));

    const std::vector<std::int32_t> expected = {4, 5, 6, 0, 2, 3, 7, 11, 12};
    for (std::size_t e = 0; e < expected.size(); ++e) {
      const std::size_t page = e / 4, slot = e % 4;
      std::vector<std::byte> bytes(layout.bytes());
      device->download(memory[page], bytes.data());
      for (std::int64_t d = 0; d < dim; ++d) {
        const std::int64_t from = (expected[e] * heads + 1) * dim + d;
        const auto element = static_cast<std::int64_t>(slot) * dim + d;
        EXPECT_EQ(load_float(bytes.data(), type, element), keys[from]) << name_of(type) << e;
        EXPECT_EQ(load_float(bytes.data() + layout.value_offset(), type, element), values[from]);
      }
      std::int32_t position;
      std::memcpy(&position, bytes.data() + layout.position_offset() + slot * 4, 4);
      EXPECT_EQ(position, at[expected[e]]);
    }
  }
}

TEST_P(Rows, StoreOfOneRowForEachOfManySequences) {
  const auto device = make();
  const std::int64_t sequences = 5, heads = 2, dim = 8;
  const PageLayout layout{.page_tokens = 4, .head_dim = dim, .type = DType::f32};
  Padded k(*device, DType::f32, {sequences, heads, dim}),
      v(*device, DType::f32, {sequences, heads, dim}),
      positions(*device, DType::i32, {sequences}, 0);
  const auto keys = normal(sequences * heads * dim), values = normal(sequences * heads * dim);
  put(*device, k, keys);
  put(*device, v, values);
  put(*device, positions, std::vector<std::int32_t>{7, 8, 9, 10, 11});
  std::vector<Tensor> memory;
  std::vector<std::unique_ptr<CachedPages>> caches;
  std::vector<Device::StoreArgs> stores;
  // Cached heads are twice the KV heads; the sequences' lengths are 0 to 4, ragged by one.
  for (std::int64_t s = 0; s < sequences; ++s) {
    std::vector<std::vector<std::byte*>> table;
    std::vector<std::int32_t> lengths;
    for (std::int64_t h = 0; h < 2 * heads; ++h) {
      table.emplace_back();
      for (int p = 0; p < 2; ++p) {
        memory.push_back(
            device->empty(DType::i32, {static_cast<std::int64_t>(layout.bytes() / 4)}));
        table.back().push_back(static_cast<std::byte*>(memory.back().view().data));
      }
      lengths.push_back(static_cast<std::int32_t>(s + h % 2));
    }
    caches.push_back(std::make_unique<CachedPages>(*device, table, lengths));
    stores.push_back({.k = k,
                      .v = v,
                      .positions = positions,
                      .chosen = {},
                      .first = s,
                      .count = 1,
                      .cache = caches.back()->layer()});
  }
  device->store(stores, layout);
  for (std::int64_t s = 0; s < sequences; ++s) {
    for (std::int64_t h = 0; h < 2 * heads; ++h) {
      const std::int64_t entry = s + h % 2;
      EXPECT_EQ(caches[static_cast<std::size_t>(s)]->lengths()[static_cast<std::size_t>(h)],
                entry + 1);
      const Tensor& page = memory[static_cast<std::size_t>((s * 2 * heads + h) * 2 + entry / 4)];
      std::vector<std::byte> bytes(layout.bytes());
      device->download(page, bytes.data());
      for (std::int64_t d = 0; d < dim; ++d) {
        const std::int64_t from = (s * heads + h / 2) * dim + d;
        EXPECT_EQ(load_float(bytes.data(), DType::f32, entry % 4 * dim + d), keys[from]);
        EXPECT_EQ(load_float(bytes.data() + layout.value_offset(), DType::f32, entry % 4 * dim + d),
                  values[from]);
      }
      std::int32_t position;
      std::memcpy(&position, bytes.data() + layout.position_offset() + entry % 4 * 4, 4);
      EXPECT_EQ(position, 7 + s);
    }
  }
}

TEST_P(Rows, ArgmaxTakesTheFirstOfEquals) {
  const auto device = make();
  for (std::int64_t columns : {1, 31, 1000, 40001}) {
    auto x = normal(3 * columns);
    std::vector<std::int32_t> expected;
    for (std::int64_t row = 0; row < 3; ++row) {
      const std::int64_t first = whole(0, columns - 1);
      x[row * columns + first] = 50;
      x[row * columns + whole(first, columns - 1)] = 50;
      expected.push_back(static_cast<std::int32_t>(first));
    }
    Padded in(*device, DType::f32, {3, columns}), out(*device, DType::i32, {3}, 0);
    put(*device, in, x);
    device->argmax(in, out);
    EXPECT_EQ(get_ints(*device, out), expected);
  }
}

TEST_P(Rows, ArgMaxOfWhatIsNoNumber) {
  const auto device = make();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  Padded in(*device, DType::f32, {4, 3}), out(*device, DType::i32, {4}, 0);
  put(*device, in,
      std::vector<float>{nan, 1, 2, nan, nan, nan, -infinity, -infinity, -infinity,  //
                         -infinity, nan, infinity});
  device->argmax(in, out);
  EXPECT_EQ(get_ints(*device, out), (std::vector<std::int32_t>{2, 0, 0, 2}));
}

TEST_P(Rows, RecordingReadsWhatIsThereWhenReplayed) {
  const auto device = make();
  Padded in(*device, DType::f32, {4, 3}), rows(*device, DType::i32, {2}, 0),
      out(*device, DType::f32, {2, 3});
  put(*device, in, normal(12));
  put(*device, rows, std::vector<std::int32_t>{1, 2});
  const auto recording = device->record([&] { device->gather_rows(in, rows, out); });
  const auto x = normal(12);
  put(*device, in, x);
  put(*device, rows, std::vector<std::int32_t>{3, 0});
  recording->replay();
  std::vector<double> expected(x.begin() + 9, x.end());
  expected.insert(expected.end(), x.begin(), x.begin() + 3);
  EXPECT_TRUE(near(get(*device, out), expected, 0));
}

}  // namespace
}  // namespace fastkv::test
