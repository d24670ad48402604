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
  Device& device() const { return device_; }
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
  static constexpr std::int64_t slab_pages = 256;
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
/// A layer caches Hkv heads, or Hq where a method keeps entries per query head. Keys, values, the
/// addresses of their pages and the lengths lie on the device; the host keeps a copy of the latter
/// two, so that pages can be taken before they are written.
class SequenceCache {
 public:
  SequenceCache(PagePool& pool, std::int64_t layers);
  ~SequenceCache();
  SequenceCache(const SequenceCache&) = delete;
  SequenceCache& operator=(const SequenceCache&) = delete;

  /// What operations read and write; heads is 0 before the layer's first reserve(). Addresses
  /// stay as they are while generation() does.
  CachedLayer layer(std::int64_t layer) const;
  std::int64_t head_count(std::int64_t layer) const {
    return static_cast<std::int64_t>(layers_[index(layer)].heads.size());
  }
  /// Entries of the longest head.
  std::int64_t length(std::int64_t layer) const;
  bool empty() const { return next_position == 0; }
  /// A number that no other cache, and no other state of this one's addresses, has.
  std::uint64_t generation() const { return generation_; }

  /// Makes room for `count` more entries in each of a layer's `heads` heads; a layer's first call
  /// fixes how many heads it has: C, a multiple of Hkv.
  void reserve(std::int64_t layer, std::int64_t heads, std::int64_t count);
  /// Notes that `count` entries were stored in each head of a layer.
  void stored(std::int64_t layer, std::int64_t count);

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
    std::int64_t page_capacity = 0;  // of a row of `table`
    Tensor table;                    // (C, 2 * page_capacity) int32: addresses of 8 bytes
    bool table_is_old = true;        // it lacks pages, as memory may run out on the way
    Tensor lengths;                  // (C) int32
  };
  static std::size_t index(std::int64_t layer) { return static_cast<std::size_t>(layer); }
  static std::uint64_t next_generation();

  Device& device_;
  PagePool& pool_;
  std::vector<Layer> layers_;
  std::uint64_t generation_ = next_generation();
};

}  // namespace fastkv
