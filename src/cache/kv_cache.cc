#include "cache/kv_cache.h"

#include <algorithm>
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
    : pool_(pool), layers_(index(layers)) {}

SequenceCache::~SequenceCache() { clear(); }

void SequenceCache::clear() {
  for (Layer& layer : layers_) {
    for (Head& head : layer.heads) {
      for (std::byte* page : head.pages) pool_.give(page);
    }
    layer = {};
  }
  next_position = 0;
}

std::int64_t SequenceCache::length(std::int64_t layer) const {
  std::int64_t longest = 0;
  for (const CachedHead& head : heads(layer)) longest = std::max(longest, head.length);
  return longest;
}

void SequenceCache::store(Device& device, std::int64_t layer, const Rows& rows) {
  if (rows.count == 0) return;
  Layer& l = layers_[index(layer)];
  if (l.heads.empty()) l.heads.resize(index(rows.heads));
  const auto head_count = static_cast<std::int64_t>(l.heads.size());
  const std::int64_t per_kv_head = head_count / rows.k.shape[1];
  const std::int64_t page_tokens = pool_.layout().page_tokens;

  std::vector<Device::StoreArgs> stores;
  for (std::int64_t h = 0; h < head_count; ++h) {
    Head& head = l.heads[index(h)];
    const std::int64_t pages = (head.length + rows.count + page_tokens - 1) / page_tokens;
    while (static_cast<std::int64_t>(head.pages.size()) < pages) head.pages.push_back(pool_.take());
    View chosen;
    if (rows.chosen) chosen = View(rows.chosen.row_bytes(h), DType::i32, {rows.count});
    stores.push_back({.k = rows.k,
                      .v = rows.v,
                      .positions = rows.positions,
                      .kv_head = h / per_kv_head,
                      .rows = chosen,
                      .first = rows.first,
                      .count = rows.count,
                      .pages = head.pages.data(),
                      .length = head.length});
  }
  device.store(stores, pool_.layout());

  l.views.clear();
  for (Head& head : l.heads) {
    head.length += rows.count;
    l.views.push_back({head.pages.data(), head.length});
  }
}

std::size_t SequenceCache::bytes() const {
  std::size_t entries = 0;
  for (const Layer& layer : layers_) {
    for (const Head& head : layer.heads) entries += static_cast<std::size_t>(head.length);
  }
  return entries * pool_.layout().entry_bytes();
}

}  // namespace fastkv
