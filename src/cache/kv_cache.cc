#include "cache/kv_cache.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <iterator>

#include "core/error.h"

namespace fastkv {

PagePool::PagePool(Device& device, PageLayout layout, std::size_t limit_bytes)
    : device_(device), layout_(layout), limit_bytes_(limit_bytes) {}

std::byte* PagePool::take() {
  if (slabs_with_room_.empty()) {
    if (limit_bytes_ && bytes_reserved() + slab_bytes() > limit_bytes_) {
      fail(
          "the KV cache needs more than the {:.1f} MiB it may use; shorten the prompt, keep a "
          "smaller "
          "share of it, or serve fewer sequences at once",
          static_cast<double>(limit_bytes_) / (1 << 20));
    }
    Slab slab;
    slab.memory = device_.empty(DType::f32, {static_cast<std::int64_t>(slab_bytes() / 4)});
    auto* base = static_cast<std::byte*>(slab.memory.view().data);
    for (std::int64_t p = slab_pages - 1; p >= 0; --p) {
      slab.free.push_back(base + static_cast<std::size_t>(p) * layout_.bytes());
    }
    slabs_.emplace(base, std::move(slab));
    slabs_with_room_.insert(base);
  }
  const auto slab = slabs_.find(*slabs_with_room_.begin());
  std::byte* page = slab->second.free.back();
  slab->second.free.pop_back();
  if (slab->second.free.empty()) slabs_with_room_.erase(slab->first);
  peak_ = std::max(peak_, ++in_use_);
  return page;
}

void PagePool::give(std::byte* page) {
  const auto slab = std::prev(slabs_.upper_bound(page));
  assert(page < slab->first + slab_bytes());
  slab->second.free.push_back(page);
  --in_use_;
  slabs_with_room_.insert(slab->first);
  if (slab->second.free.size() == slab_pages) {
    slabs_with_room_.erase(slab->first);
    slabs_.erase(slab);
  }
}

std::size_t PagePool::bytes_reserved() const { return slabs_.size() * slab_bytes(); }

SequenceCache::SequenceCache(PagePool& pool, std::int64_t layers)
    : device_(pool.device()), pool_(pool), layers_(index(layers)) {}

SequenceCache::~SequenceCache() { clear(); }

std::uint64_t SequenceCache::next_generation() {
  static std::atomic<std::uint64_t> next = 0;
  return ++next;
}

void SequenceCache::clear() {
  for (Layer& layer : layers_) {
    for (Head& head : layer.heads) {
      for (std::byte* page : head.pages) pool_.give(page);
    }
    layer = {};
  }
  next_position = 0;
  generation_ = next_generation();
}

CachedLayer SequenceCache::layer(std::int64_t layer) const {
  const Layer& l = layers_[index(layer)];
  if (l.heads.empty()) return {};
  return {static_cast<std::byte* const*>(l.table.view().data), l.lengths.as<std::int32_t>(),
          static_cast<std::int64_t>(l.heads.size()), l.page_capacity};
}

std::int64_t SequenceCache::length(std::int64_t layer) const {
  std::int64_t longest = 0;
  for (const Head& head : layers_[index(layer)].heads) longest = std::max(longest, head.length);
  return longest;
}

void SequenceCache::reserve(std::int64_t layer, std::int64_t heads, std::int64_t count) {
  Layer& l = layers_[index(layer)];
  const std::int64_t page_tokens = pool_.layout().page_tokens;
  if (l.heads.empty()) {
    l.lengths = device_.empty(DType::i32, {heads});
    const std::vector<std::int32_t> zeros(index(heads));
    device_.upload(zeros.data(), l.lengths);
    l.heads.resize(index(heads));
  }
  for (Head& head : l.heads) {
    const std::int64_t pages = (head.length + count + page_tokens - 1) / page_tokens;
    while (static_cast<std::int64_t>(head.pages.size()) < pages) {
      head.pages.push_back(pool_.take());
      l.table_is_old = true;
    }
  }
  if (!l.table_is_old) return;

  std::size_t most = 0;
  for (const Head& head : l.heads) most = std::max(most, head.pages.size());
  const auto rows = static_cast<std::int64_t>(l.heads.size());
  if (!l.table || static_cast<std::int64_t>(most) > l.page_capacity) {
    // Room to grow: a table that moves makes recorded operations worthless.
    const auto capacity = static_cast<std::int64_t>(most + most / 8 + 16);
    l.table = device_.empty(DType::i32, {rows, 2 * capacity});
    l.page_capacity = capacity;
    generation_ = next_generation();
  }
  std::vector<std::byte*> table(index(rows * l.page_capacity));
  auto row = table.begin();
  for (const Head& head : l.heads) {
    std::copy(head.pages.begin(), head.pages.end(), row);
    row += l.page_capacity;
  }
  device_.upload(table.data(), l.table);
  l.table_is_old = false;
}

void SequenceCache::stored(std::int64_t layer, std::int64_t count) {
  for (Head& head : layers_[index(layer)].heads) head.length += count;
}

std::size_t SequenceCache::bytes() const {
  std::size_t entries = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) entries += static_cast<std::size_t>(head.length);
  }
  return entries * pool_.layout().entry_bytes();
}

}  // namespace fastkv
