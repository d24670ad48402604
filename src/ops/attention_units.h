#pragma once

#include <cstdint>
#include <vector>

#include "ops/attention_kernels.h"
#include "ops/device.h"

// How one call of attention is cut into parts that share keys.

namespace fastkv {

/// Query heads of one segment that read the same keys and values: the g heads of a KV head, or one
/// head alone where the cache holds a head for each query head.
struct AttentionUnit {
  const AttentionSegment* segment = nullptr;
  KeySource source;
  std::int64_t first_head = 0;
  std::int64_t heads = 0;

  /// Row i of the segment sees entries [begin_of(i), end_of(i)).
  std::int64_t end_of(std::int64_t row) const { return source.cached.length + row + 1; }
};

std::vector<AttentionUnit> attention_units(const AttentionArgs& args,
                                           const AttentionSegment& segment);

/// First entry that row `row` of the segment sees: 0, or by the sliding window. Entries lie in
/// the order of their positions.
std::int64_t first_visible(const AttentionArgs& args, const AttentionUnit& unit, std::int64_t row);

/// Where entry `entry` < cached.length of a cached head begins.
inline const std::byte* cached_key(const KeySource& source, std::int64_t entry) {
  const PageLayout& layout = *source.layout;
  return source.cached.pages[entry / layout.page_tokens] +
         static_cast<std::size_t>(entry % layout.page_tokens * layout.head_dim) *
             size_of(layout.type);
}

}  // namespace fastkv
