// Operations that move whole rows: embed, gather_rows, store.

#include <cassert>
#include <cstring>

#include "ops/convert.h"
#include "ops/cpu_device.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

std::int64_t row_elements(const View& view) {
  return view.rows() == 0 ? 0 : view.shape.count() / view.rows();
}

void copy_as_float(const void* from, DType type, std::int64_t count, float* to) {
  if (type == DType::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = load_float(from, type, i);
  }
}

void copy_from_float(const float* from, std::int64_t count, DType type, std::byte* to) {
  if (type == DType::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  } else {
    assert(type == DType::bf16);
    auto* out = reinterpret_cast<std::uint16_t*>(to);
    for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_from_float(from[i]);
  }
}

void store_head(const Device::StoreArgs& args, const PageLayout& layout, std::int64_t head) {
  const std::int64_t dim = layout.head_dim;
  const std::int64_t kv_head = head / (args.cache.heads / args.k.shape[1]);
  std::byte* const* pages = args.cache.pages + head * args.cache.page_capacity;
  std::int32_t& length = args.cache.lengths[head];
  for (std::int64_t i = 0; i < args.count; ++i) {
    const std::int64_t row = args.chosen ? args.chosen.row<std::int32_t>(head)[i] : args.first + i;
    const std::int64_t entry = length + i;
    std::byte* page = pages[entry / layout.page_tokens];
    const std::int64_t slot = entry % layout.page_tokens;
    std::byte* key = page + static_cast<std::size_t>(slot * dim) * size_of(layout.type);
    copy_from_float(args.k.row<float>(row) + kv_head * dim, dim, layout.type, key);
    copy_from_float(args.v.row<float>(row) + kv_head * dim, dim, layout.type,
                    key + layout.value_offset());
    std::memcpy(page + layout.position_offset() + slot * 4, args.positions.as<std::int32_t>() + row,
                4);
  }
  length += static_cast<std::int32_t>(args.count);
}

}  // namespace

void CpuDevice::embed(const View& ids, const View& table, const View& out) {
  const std::int64_t width = table.shape[1];
  parallel_for(threads_for(ids.rows() * width), ids.rows(), [&](std::int64_t i, int) {
    const std::int32_t id = ids.as<std::int32_t>()[i];
    assert(id >= 0 && id < table.rows());
    copy_as_float(table.row_bytes(id), table.type, width, out.row<float>(i));
  });
}

void CpuDevice::gather_rows(const View& x, const View& rows, const View& out) {
  const std::int64_t width = row_elements(x);
  const std::size_t bytes = static_cast<std::size_t>(width) * size_of(x.type);
  parallel_for(threads_for(rows.rows() * width), rows.rows(), [&](std::int64_t i, int) {
    const std::int32_t row = rows.as<std::int32_t>()[i];
    assert(row >= 0 && row < x.rows());
    std::memcpy(out.row_bytes(i), x.row_bytes(row), bytes);
  });
}

void CpuDevice::store(std::span<const StoreArgs> sequences, const PageLayout& layout) {
  for (const StoreArgs& args : sequences) {
    parallel_for(threads_for(args.cache.heads * args.count * layout.head_dim), args.cache.heads,
                 [&](std::int64_t head, int) { store_head(args, layout, head); });
  }
}

}  // namespace fastkv
