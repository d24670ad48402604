#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "ops/device.h"

namespace fastkv {

/// Pages of one size on one device. Sequences take pages and give them back; a slab of pages whose
/// last page comes back is returned to the device.
class PagePool {
 public:
  /// `limit_bytes`: Error instead of growing beyond; 0: as much as the device has.
  PagePool(Device& device, PageLayout layout, std::size_t limit_bytes = 0);

  const PageLayout& layout() const { return layout_; }
  std::byte* take();
  void give(std::byte* page);

  std::size_t bytes_in_use() const { return in_use_ * layout_.bytes(); }
  std::size_t peak_bytes() const { return peak_ * layout_.bytes(); }
  std::size_t bytes_reserved() const;

 private:
  struct Slab {
    Tensor memory;  // (pages_per_slab * page bytes / 4) float32
    std::vector<std::byte*> free;
  };
  static constexpr std::int64_t slab_pages = 64;
  std::size_t slab_bytes() const { return layout_.bytes() * slab_pages; }

  Device& device_;
  PageLayout layout_;
  std::size_t limit_bytes_;
  std::map<std::byte*, Slab> slabs_;      // by first byte
  std::set<std::byte*> slabs_with_room_;  // their first bytes
  std::size_t in_use_ = 0;                // pages
  std::size_t peak_ = 0;
};

/// The cache of one sequence: in each layer a list of heads, each with its own number of entries.
/// A layer caches Hkv heads, or Hq where a method keeps entries per query head.
class SequenceCache {
 public:
  SequenceCache(PagePool& pool, std::int64_t layers);
  ~SequenceCache();
  SequenceCache(const SequenceCache&) = delete;
  SequenceCache& operator=(const SequenceCache&) = delete;

  /// Heads of a layer, empty before its first store(). Valid until the next change.
  std::span<const CachedHead> heads(std::int64_t layer) const {
    return layers_[index(layer)].views;
  }
  std::int64_t head_count(std::int64_t layer) const {
    return static_cast<std::int64_t>(heads(layer).size());
  }
  /// Entries of the longest head.
  std::int64_t length(std::int64_t layer) const;
  bool empty() const { return next_position == 0; }

  /// Rows of a layer's fresh keys and values to append.
  struct Rows {
    View k, v;       // (n, Hkv, D)
    View positions;  // (n) int32
    View chosen;     // (C, m) int32: rows for each cached head; empty: rows [first, first + count)
    std::int64_t first = 0;
    std::int64_t count = 0;
    std::int64_t heads = 0;  // C, a multiple of Hkv; fixed by a layer's first store
  };
  void store(Device& device, std::int64_t layer, const Rows& rows);

  /// Keys and values held, in bytes, without page slack and positions.
  std::size_t bytes() const;
  /// Gives every page back; the sequence starts anew.
  void clear();

  /// Position of the next token.
  std::int64_t next_position = 0;

 private:
  struct Head {
    std::vector<std::byte*> pages;
    std::int64_t length = 0;
  };
  struct Layer {
    std::vector<Head> heads;
    std::vector<CachedHead> views;  // of heads
  };
  static std::size_t index(std::int64_t layer) { return static_cast<std::size_t>(layer); }

  PagePool& pool_;
  std::vector<Layer> layers_;
};

}  // namespace fastkv
