#include "ops/attention_units.h"

namespace fastkv {

std::vector<AttentionUnit> attention_units(const AttentionArgs& args,
                                           const AttentionSegment& segment) {
  const std::int64_t query_heads = args.q.shape[1];
  const std::int64_t kv_heads = args.k.shape[1];
  const std::int64_t dim = args.q.shape[2];
  const std::int64_t cached_heads = segment.cached.heads;
  const std::int64_t units = cached_heads > 0 ? cached_heads : kv_heads;
  const std::int64_t sharing = query_heads / units;
  const std::int64_t group = query_heads / kv_heads;
  std::vector<AttentionUnit> result;
  for (std::int64_t u = 0; u < units; ++u) {
    AttentionUnit unit;
    unit.segment = &segment;
    unit.first_head = u * sharing;
    unit.heads = sharing;
    const std::int64_t column = unit.first_head / group * dim;
    if (cached_heads > 0) unit.source.cached = head_of(segment.cached, u);
    unit.source.layout = &args.layout;
    unit.source.k = args.k.row<float>(segment.first_row) + column;
    unit.source.k_stride = args.k.row_stride;
    unit.source.v = args.v.row<float>(segment.first_row) + column;
    unit.source.v_stride = args.v.row_stride;
    unit.source.length = unit.source.cached.length + segment.rows;
    unit.source.dim = dim;
    result.push_back(unit);
  }
  return result;
}

std::int64_t first_visible(const AttentionArgs& args, const AttentionUnit& unit, std::int64_t row) {
  if (args.sliding_window <= 0) return 0;
  const std::int32_t* own = args.positions.as<std::int32_t>() + unit.segment->first_row;  // (rows)
  const std::int64_t oldest = own[row] - args.sliding_window + 1;
  const CachedHead& cached = unit.source.cached;
  const auto position = [&](std::int64_t entry) -> std::int64_t {
    if (entry >= cached.length) return own[entry - cached.length];
    const PageLayout& layout = args.layout;
    const std::byte* page = cached.pages[entry / layout.page_tokens];
    return reinterpret_cast<const std::int32_t*>(
        page + layout.position_offset())[entry % layout.page_tokens];
  };
  std::int64_t low = 0, high = unit.end_of(row);
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (position(middle) < oldest) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace fastkv
