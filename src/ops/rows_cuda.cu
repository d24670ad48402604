// Operations that move whole rows: embed, gather_rows, store; and argmax.

#include <algorithm>
#include <cassert>
#include <vector>

#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

using cuda::blocks_for;
using cuda::from_float;
using cuda::to_float;

constexpr int threads = 256;

template <class Table, class Out>
__global__ void embed_kernel(const std::int32_t* ids, const Table* table, std::int64_t table_stride,
                             Out* out, std::int64_t out_stride, std::int64_t width) {
  const Table* from = table + ids[blockIdx.x] * table_stride;
  Out* to = out + blockIdx.x * out_stride;
  for (std::int64_t i = threadIdx.x; i < width; i += threads)
    to[i] = from_float<Out>(to_float(from[i]));
}

/// Word: the widest type that divides a row.
template <class Word>
__global__ void gather_kernel(const std::byte* x, std::int64_t x_pitch, const std::int32_t* rows,
                              std::byte* out, std::int64_t out_pitch, std::int64_t count,
                              std::int64_t words) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= count * words) return;
  const std::int64_t row = i / words;
  const auto* from = reinterpret_cast<const Word*>(x + rows[row] * x_pitch);
  reinterpret_cast<Word*>(out + row * out_pitch)[i % words] = from[i % words];
}

/// Row `row` of k and v to entry `entry` of a head, by the threads of a warp.
template <class In, class Cached>
__device__ void store_entry(const In* k, const In* v, std::int32_t position,
                            std::byte* const* pages, std::int64_t entry, const PageLayout& layout,
                            int lane) {
  std::byte* page = pages[entry / layout.page_tokens];
  const std::int64_t slot = entry % layout.page_tokens;
  const std::int64_t block = layout.page_tokens * layout.head_dim;
  auto* key = reinterpret_cast<Cached*>(page) + slot * layout.head_dim;
  for (std::int64_t d = lane; d < layout.head_dim; d += 32) {
    key[d] = from_float<Cached>(to_float(k[d]));
    key[block + d] = from_float<Cached>(to_float(v[d]));
  }
  if (lane == 0) {
    reinterpret_cast<std::int32_t*>(
        page + 2 * block * static_cast<std::int64_t>(sizeof(Cached)))[slot] = position;
  }
}

template <class In>
struct Fresh {
  const In *k, *v;
  std::int64_t k_stride, v_stride;
  const std::int32_t* positions;
  int kv_heads;
};

/// Many rows of one sequence: a warp an entry.
template <class In, class Cached>
__global__ void store_rows_kernel(Fresh<In> fresh, const std::int32_t* chosen,
                                  std::int64_t chosen_stride, std::int64_t first,
                                  std::int64_t count, CachedLayer cache, PageLayout layout) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * (threads / 32) + threadIdx.x / 32;
  if (i >= count) return;
  const std::int64_t head = blockIdx.y;
  const std::int64_t kv_head = head / (cache.heads / fresh.kv_heads);
  const std::int64_t row = chosen ? chosen[head * chosen_stride + i] : first + i;
  store_entry<In, Cached>(fresh.k + row * fresh.k_stride + kv_head * layout.head_dim,
                          fresh.v + row * fresh.v_stride + kv_head * layout.head_dim,
                          fresh.positions[row], cache.pages + head * cache.page_capacity,
                          cache.lengths[head] + i, layout, threadIdx.x % 32);
}

__global__ void advance_kernel(CachedLayer cache, std::int32_t count) {
  for (std::int64_t h = threadIdx.x; h < cache.heads; h += blockDim.x) cache.lengths[h] += count;
}

constexpr int store_group = 64;  // sequences in one launch
struct StoreGroup {
  CachedLayer cache[store_group];
  std::int32_t row[store_group];
};

/// One row for each of several sequences: a warp a head.
template <class In, class Cached>
__global__ void store_steps_kernel(Fresh<In> fresh, const StoreGroup group, PageLayout layout) {
  cuda::let_next_start();
  cuda::wait_for_inputs();
  const CachedLayer& cache = group.cache[blockIdx.y];
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  if (head >= cache.heads) return;
  const int lane = threadIdx.x % 32;
  const std::int64_t kv_head = head / (cache.heads / fresh.kv_heads);
  const std::int64_t row = group.row[blockIdx.y];
  const std::int64_t length = cache.lengths[head];
  store_entry<In, Cached>(fresh.k + row * fresh.k_stride + kv_head * layout.head_dim,
                          fresh.v + row * fresh.v_stride + kv_head * layout.head_dim,
                          fresh.positions[row], cache.pages + head * cache.page_capacity, length,
                          layout, lane);
  __syncwarp();
  if (lane == 0) cache.lengths[head] = static_cast<std::int32_t>(length + 1);
}

template <class In, class Cached>
void store_all(std::span<const Device::StoreArgs> sequences, const PageLayout& layout,
               cudaStream_t stream) {
  const Device::StoreArgs& shared = sequences.front();
  const Fresh<In> fresh{static_cast<const In*>(shared.k.data),
                        static_cast<const In*>(shared.v.data),
                        shared.k.row_stride,
                        shared.v.row_stride,
                        static_cast<const std::int32_t*>(shared.positions.data),
                        static_cast<int>(shared.k.shape[1])};
  StoreGroup group{};
  int members = 0;
  std::int64_t most_heads = 0;
  const auto flush = [&] {
    if (members == 0) return;
    cuda::launch("store_steps_kernel", store_steps_kernel<In, Cached>,
                 dim3(blocks_for(most_heads, 4), static_cast<unsigned>(members)), 128, 0, stream,
                 true, fresh, group, layout);
    members = 0;
    most_heads = 0;
  };
  for (const Device::StoreArgs& s : sequences) {
    assert(s.k.data == shared.k.data && s.v.data == shared.v.data);
    if (s.count == 1 && !s.chosen) {
      group.cache[members] = s.cache;
      group.row[members] = static_cast<std::int32_t>(s.first);
      most_heads = std::max(most_heads, s.cache.heads);
      if (++members == store_group) flush();
      continue;
    }
    if (s.count == 0) continue;
    cuda::launch("store_rows_kernel", store_rows_kernel<In, Cached>,
                 dim3(blocks_for(s.count, threads / 32), static_cast<unsigned>(s.cache.heads)),
                 threads, 0, stream, false, fresh,
                 s.chosen ? static_cast<const std::int32_t*>(s.chosen.data) : nullptr,
                 s.chosen ? s.chosen.row_stride : 0, s.first, s.count, s.cache, layout);
    cuda::launch("advance_kernel", advance_kernel, dim3(1), 128, 0, stream, false, s.cache,
                 static_cast<std::int32_t>(s.count));
  }
  flush();
}

struct Best {
  float value;
  std::int32_t place;

  /// The higher value, of equal ones the first.
  __device__ void offer(const Best& other) {
    if (other.value > value || (other.value == value && other.place < place)) *this = other;
  }
  __device__ void join_warp() {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      const Best other{__shfl_xor_sync(0xffffffffU, value, lanes),
                       __shfl_xor_sync(0xffffffffU, place, lanes)};
      offer(other);
    }
  }
};

constexpr int argmax_blocks = 16;  // for a row
constexpr int argmax_threads = 512;

/// best: (rows, argmax_blocks). tickets: (rows), zero before and after.
__global__ void __launch_bounds__(argmax_threads)
    argmax_kernel(const float* x, std::int64_t stride, std::int64_t columns, Best* best,
                  std::int32_t* tickets, std::int32_t* out) {
  __shared__ Best of_warp[argmax_threads / 32];
  __shared__ bool is_last;
  cuda::let_next_start();
  cuda::wait_for_inputs();
  const unsigned row = blockIdx.y;
  x += row * stride;
  best += row * argmax_blocks;
  constexpr Best nothing{-INFINITY, INT32_MAX};
  Best mine = nothing;
#pragma unroll 8
  for (std::int64_t i = blockIdx.x * argmax_threads + threadIdx.x; i < columns;
       i += argmax_blocks * argmax_threads)
    mine.offer({x[i], static_cast<std::int32_t>(i)});
  mine.join_warp();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  mine = threadIdx.x < argmax_threads / 32 ? of_warp[threadIdx.x] : nothing;
  mine.join_warp();

  // The last block to get here joins all of them.
  if (threadIdx.x == 0) {
    best[blockIdx.x] = mine;
    __threadfence();
    is_last = atomicAdd(&tickets[row], 1) == argmax_blocks - 1;
  }
  __syncwarp();
  if (!is_last) return;
  __threadfence();
  mine = nothing;
  if (threadIdx.x < argmax_blocks)
    mine = {__ldcg(&best[threadIdx.x].value), __ldcg(&best[threadIdx.x].place)};
  mine.join_warp();
  if (threadIdx.x > 0) return;
  tickets[row] = 0;
  // Where nothing is a number, the first column, as on the CPU.
  out[row] = mine.place == INT32_MAX ? 0 : mine.place;
}

}  // namespace

void CudaDevice::embed(const View& ids, const View& table, const View& out) {
  if (ids.rows() == 0) return;
  const auto start = [&]<class Table, class Out>(Table*, Out*) {
    cuda::launch("embed_kernel", embed_kernel<Table, Out>, dim3(static_cast<unsigned>(ids.rows())),
                 threads, 0, stream(), false, static_cast<const std::int32_t*>(ids.data),
                 static_cast<const Table*>(table.data), table.row_stride,
                 static_cast<Out*>(out.data), out.row_stride, table.shape[1]);
  };
  const auto to = [&]<class Out>(Out* o) {
    if (table.type == DType::f32) return start(static_cast<float*>(nullptr), o);
    if (table.type == DType::f16) return start(static_cast<__half*>(nullptr), o);
    return start(static_cast<__nv_bfloat16*>(nullptr), o);
  };
  if (out.type == DType::f32) {
    to(static_cast<float*>(nullptr));
  } else {
    to(static_cast<__nv_bfloat16*>(nullptr));
  }
}

void CudaDevice::gather_rows(const View& x, const View& rows, const View& out) {
  const std::int64_t count = rows.rows();
  if (count == 0 || x.rows() == 0) return;
  const auto size = static_cast<std::int64_t>(size_of(x.type));
  const std::int64_t bytes = x.shape.count() / x.rows() * size;
  const auto start = [&]<class Word>(Word*) {
    const std::int64_t words = bytes / static_cast<std::int64_t>(sizeof(Word));
    cuda::launch("gather_kernel", gather_kernel<Word>, dim3(blocks_for(count * words, threads)),
                 threads, 0, stream(), false, static_cast<const std::byte*>(x.data),
                 x.row_stride * size, static_cast<const std::int32_t*>(rows.data),
                 static_cast<std::byte*>(out.data), out.row_stride * size, count, words);
  };
  const auto fits = [&](std::int64_t word) {
    return bytes % word == 0 && x.row_stride * size % word == 0 &&
           out.row_stride * size % word == 0 &&
           reinterpret_cast<std::uintptr_t>(x.data) % static_cast<std::uintptr_t>(word) == 0 &&
           reinterpret_cast<std::uintptr_t>(out.data) % static_cast<std::uintptr_t>(word) == 0;
  };
  if (fits(16)) {
    start(static_cast<uint4*>(nullptr));
  } else if (fits(4)) {
    start(static_cast<std::uint32_t*>(nullptr));
  } else {
    start(static_cast<std::uint16_t*>(nullptr));
  }
}

void CudaDevice::store(std::span<const StoreArgs> sequences, const PageLayout& layout) {
  if (sequences.empty()) return;
  const bool narrow = sequences.front().k.type == DType::bf16;
  const bool narrow_cache = layout.type == DType::bf16;
  if (narrow && narrow_cache) {
    store_all<__nv_bfloat16, __nv_bfloat16>(sequences, layout, stream());
  } else if (narrow) {
    store_all<__nv_bfloat16, float>(sequences, layout, stream());
  } else if (narrow_cache) {
    store_all<float, __nv_bfloat16>(sequences, layout, stream());
  } else {
    store_all<float, float>(sequences, layout, stream());
  }
}

void CudaDevice::argmax(const View& x, const View& out) {
  // Nobody else uses the decoding workspace meanwhile.
  const std::int64_t at_once = std::min(
      decode_tickets_.shape()[0],
      static_cast<std::int64_t>(decode_partials_.bytes() / (argmax_blocks * sizeof(Best))));
  for (std::int64_t first = 0; first < x.rows(); first += at_once) {
    const View rows = x.slice(first, std::min(at_once, x.rows() - first));
    const dim3 grid(argmax_blocks, static_cast<unsigned>(rows.rows()));
    cuda::launch("argmax_kernel", argmax_kernel, grid, argmax_threads, 0, stream(), true,
                 static_cast<const float*>(rows.data), x.row_stride, x.shape[1],
                 reinterpret_cast<Best*>(decode_partials_.view().data),
                 decode_tickets_.as<std::int32_t>(), out.as<std::int32_t>() + first);
  }
}

}  // namespace fastkv
