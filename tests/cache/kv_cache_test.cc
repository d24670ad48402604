#include "cache/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "core/error.h"

namespace fastkv {
namespace {

constexpr std::int64_t head_dim = 4;
constexpr PageLayout layout{.page_tokens = 8, .head_dim = head_dim, .type = DType::f32};

/// Keys whose every number is 100 * head + row, values their negative, positions 1000 + row.
struct Rows {
  Rows(Device& device, std::int64_t n, std::int64_t heads)
      : k(device.empty(DType::f32, {n, heads, head_dim})),
        v(device.empty(DType::f32, {n, heads, head_dim})),
        positions(device.empty(DType::i32, {n})) {
    for (std::int64_t row = 0; row < n; ++row) {
      positions.as<std::int32_t>()[row] = static_cast<std::int32_t>(1000 + row);
      for (std::int64_t i = 0; i < heads * head_dim; ++i) {
        const auto value = static_cast<float>(100 * (i / head_dim) + row);
        k.as<float>()[row * heads * head_dim + i] = value;
        v.as<float>()[row * heads * head_dim + i] = -value;
      }
    }
  }
  Tensor k, v, positions;
};

/// One head of a cached layer, read on the host.
struct Head {
  std::byte* const* pages;
};
Head head_of(const SequenceCache& cache, std::int64_t head) {
  const CachedLayer layer = cache.layer(0);
  return {layer.pages + head * layer.page_capacity};
}

/// Rows that a test appends, as the forward pass does.
struct Append {
  View chosen;  // (heads, count), or empty
  std::int64_t first, count, heads;
};
void store(Device& device, SequenceCache& cache, const Rows& rows, const Append& append) {
  cache.reserve(0, append.heads, append.count);
  const Device::StoreArgs args{.k = rows.k,
                               .v = rows.v,
                               .positions = rows.positions,
                               .chosen = append.chosen,
                               .first = append.first,
                               .count = append.count,
                               .cache = cache.layer(0)};
  device.store({&args, 1}, layout);
  cache.stored(0, append.count);
}

float key_at(const Head& head, std::int64_t entry) {
  const std::byte* page = head.pages[entry / layout.page_tokens];
  return reinterpret_cast<const float*>(page)[entry % layout.page_tokens * head_dim];
}
float value_at(const Head& head, std::int64_t entry) {
  const std::byte* page = head.pages[entry / layout.page_tokens] + layout.value_offset();
  return reinterpret_cast<const float*>(page)[entry % layout.page_tokens * head_dim + head_dim - 1];
}
std::int32_t position_at(const Head& head, std::int64_t entry) {
  const std::byte* page = head.pages[entry / layout.page_tokens] + layout.position_offset();
  return reinterpret_cast<const std::int32_t*>(page)[entry % layout.page_tokens];
}

TEST(KvCache, StoresRunsAndChosenRows) {
  const auto device = make_cpu_device({});
  PagePool pool(*device, layout);
  SequenceCache cache(pool, 2);
  const Rows rows(*device, 20, 2);
  Tensor chosen = device->empty(DType::i32, {2, 3});
  const std::int32_t wanted[] = {1, 5, 19, 0, 2, 18};
  device->upload(wanted, chosen);
  store(*device, cache, rows, {chosen, 0, 3, 2});
  store(*device, cache, rows, {{}, 4, 9, 2});

  ASSERT_EQ(cache.head_count(0), 2);
  EXPECT_EQ(cache.length(0), 12);
  EXPECT_EQ(cache.length(1), 0);
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t i = 0; i < 12; ++i) {
      const std::int64_t row = i < 3 ? wanted[3 * h + i] : i + 1;
      EXPECT_EQ(key_at(head_of(cache, h), i), static_cast<float>(100 * h + row));
      EXPECT_EQ(value_at(head_of(cache, h), i), -static_cast<float>(100 * h + row));
      EXPECT_EQ(position_at(head_of(cache, h), i), 1000 + row);
    }
  }
  EXPECT_EQ(cache.bytes(), 2 * 12 * layout.entry_bytes());
}

TEST(KvCache, RepeatsKvHeadsForQueryHeads) {
  const auto device = make_cpu_device({});
  PagePool pool(*device, layout);
  SequenceCache cache(pool, 1);
  const Rows rows(*device, 3, 2);
  store(*device, cache, rows, {{}, 0, 3, 6});
  ASSERT_EQ(cache.head_count(0), 6);
  for (std::int64_t h = 0; h < 6; ++h) {
    EXPECT_EQ(key_at(head_of(cache, h), 2), static_cast<float>(100 * (h / 3) + 2));
  }
}

TEST(KvCache, PagesComeBack) {
  const auto device = make_cpu_device({});
  PagePool pool(*device, layout);
  const Rows rows(*device, 17, 2);
  {
    SequenceCache first(pool, 1);
    SequenceCache second(pool, 1);
    for (SequenceCache* c : {&first, &second}) {
      store(*device, *c, rows, {{}, 0, 17, 2});
    }
    EXPECT_EQ(pool.bytes_in_use(), 2 * 2 * 3 * layout.bytes());
    first.clear();
    EXPECT_EQ(pool.bytes_in_use(), 2 * 3 * layout.bytes());
    EXPECT_EQ(key_at(head_of(second, 1), 16), 116.0F)
        << "another sequence's pages stay as they are";
  }
  EXPECT_EQ(pool.bytes_in_use(), 0U);
  EXPECT_EQ(pool.bytes_reserved(), 0U) << "an empty slab goes back to the device";
  EXPECT_EQ(pool.peak_bytes(), 2 * 2 * 3 * layout.bytes());
}

TEST(KvCache, GenerationTellsWhenAddressesMove) {
  const auto device = make_cpu_device({});
  PagePool pool(*device, layout);
  const Rows rows(*device, 300, 2);
  SequenceCache cache(pool, 1);
  SequenceCache other(pool, 1);
  EXPECT_NE(cache.generation(), other.generation());
  store(*device, cache, rows, {{}, 0, 4, 2});
  const std::uint64_t before = cache.generation();
  const CachedLayer at = cache.layer(0);
  store(*device, cache, rows, {{}, 4, 8, 2});  // one more page
  EXPECT_EQ(cache.generation(), before);
  EXPECT_EQ(cache.layer(0).pages, at.pages);
  store(*device, cache, rows, {{}, 0, 300, 2});  // more pages than there was room for
  EXPECT_NE(cache.generation(), before);
  EXPECT_EQ(key_at(head_of(cache, 1), 11), 111.0F);
  EXPECT_EQ(key_at(head_of(cache, 1), 311), 399.0F);
}

TEST(KvCache, RefusesToGrowBeyondItsLimit) {
  const auto device = make_cpu_device({});
  PagePool pool(*device, layout, /*limit_bytes=*/1);
  EXPECT_THROW(pool.take(), Error);
}

}  // namespace
}  // namespace fastkv
