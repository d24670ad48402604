#include <algorithm>
#include <cassert>

#include "ops/attention_decode_cuda.h"
#include "ops/cuda_support.h"
#include "ops/tensor_core_units.cuh"

// Decoding reads every cached key and value once: bandwidth is all that counts. The entries of a
// cached head are shared out to the warps of several blocks. A warp takes 16 entries at a time
// through its own ring of shared memory, filled ahead by asynchronous copies, and multiplies them
// with the query heads that share the cached head on tensor cores (rows of the m16n8k16 tile). The
// block merges its warps' softmaxes; the last block of a head to finish merges the blocks', in
// their order, so results do not depend on timing.

namespace fastkv::cuda {
namespace {

constexpr int max_warps = 8;       // of a block; fewer where shared memory is small
constexpr int block_entries = 16;  // that a warp takes at a time
// Two suffice to read at bandwidth, and fit the 164 KB of compute capability 8.0.
constexpr int stages = 2;
constexpr int max_queries = 16;  // that share a cached head

struct Group {
  CachedLayer cache[decode_group];
  std::int32_t row[decode_group];
};

struct Params {
  const __nv_bfloat16 *q, *k, *v;
  std::int64_t q_stride, k_stride, v_stride;
  const std::int32_t* positions;
  __nv_bfloat16* out;
  std::int64_t out_stride;
  float* partials;
  std::int32_t* tickets;
  int queries;        // that share a cached head
  int cached_per_kv;  // cached heads of a KV head
  int page_tokens;
  std::int64_t window;
  bool append;               // store the row's key and value
  const float* frequencies;  // (D / 2): rotate query and key first; null: they are rotated
  float scale;               // log2(e) / sqrt(D)
};

__device__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
__device__ unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

/// A pair of bfloat16 dimensions and the pair half a head further, turned by their angles.
__device__ void rotate(unsigned& low, unsigned& high, const float2* turn) {
  const float2 a = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&low));
  const float2 b = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&high));
  // turn (2): cosine, sine
  low = pack(a.x * turn[0].x - b.x * turn[0].y, a.y * turn[1].x - b.y * turn[1].y);
  high = pack(b.x * turn[0].x + a.x * turn[0].y, b.y * turn[1].x + a.y * turn[1].y);
}

/// The first entry whose position is at least `oldest`; the lanes of a warp search together.
__device__ std::int64_t first_visible(std::byte* const* pages, std::int64_t length,
                                      std::int64_t oldest, int page_tokens, int dim, int lane) {
  std::int64_t low = 0, high = length;
  while (low < high) {
    const std::int64_t probe = low + (lane + 1) * (high - low) / 33;
    const std::byte* page = pages[probe / page_tokens];
    const auto* positions =
        reinterpret_cast<const std::int32_t*>(page + std::int64_t{4} * page_tokens * dim);
    const int older = __popc(__ballot_sync(0xffffffffU, positions[probe % page_tokens] < oldest));
    const std::int64_t width = high - low;
    const std::int64_t start = low;
    if (older > 0) low = start + older * width / 33 + 1;
    if (older < 32) high = start + (older + 1) * width / 33;
  }
  return low;
}

/// One warp's softmax over the entries it has met: query rows g and g + 8 of the tile, g = lane
/// / 4.
template <int dim, bool wide>
struct Softmax {
  float highest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // of this lane's columns only, until finish()
  float result[dim / 8][4] = {};

  /// keys, values: shared memory (block_entries, dim), 16-byte pieces swizzled by the row's lowest
  /// three bits. Entries outside [from, to) are not seen.
  __device__ void add(const unsigned (&q)[dim / 16][4], unsigned keys, unsigned values, int from,
                      int to, float scale, int lane) {
    float logit[2][4] = {};
    const int matrix = lane / 8;
    {
      const int key = matrix / 2 * 8 + lane % 8;
      const unsigned row = keys + key * dim * 2;
#pragma unroll
      for (int i = 0; i < dim / 16; ++i) {
        unsigned b[4];
        sm80::load_matrices(b, row + (((2 * i + matrix % 2) ^ (key & 7)) * 16));
        sm80::mma(logit[0], q[i], b[0], b[1]);
        sm80::mma(logit[1], q[i], b[2], b[3]);
      }
    }
    float keep[2] = {1, 1};
#pragma unroll
    for (int half = 0; half < (wide ? 2 : 1); ++half) {
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int key = n * 8 + lane % 4 * 2 + j;
          float& x = logit[n][2 * half + j];
          x = key >= from && key < to ? x * scale : -INFINITY;
          most = fmaxf(most, x);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
      most = fmaxf(most, highest[half]);
      const float base = most == -INFINITY ? 0.0F : most;
      keep[half] = exp2f(highest[half] - base);
      highest[half] = most;
      float own = 0;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& x = logit[n][2 * half + j];
          x = exp2f(x - base);
          own += x;
        }
      }
      sum[half] = sum[half] * keep[half] + own;
    }
    if (__any_sync(0xffffffffU, keep[0] != 1 || keep[1] != 1)) {
#pragma unroll
      for (int n = 0; n < dim / 8; ++n) {
        result[n][0] *= keep[0];
        result[n][1] *= keep[0];
        if (wide) {
          result[n][2] *= keep[1];
          result[n][3] *= keep[1];
        }
      }
    }
    const unsigned p[4] = {
        pack(logit[0][0], logit[0][1]), wide ? pack(logit[0][2], logit[0][3]) : 0,
        pack(logit[1][0], logit[1][1]), wide ? pack(logit[1][2], logit[1][3]) : 0};
    const int key = matrix % 2 * 8 + lane % 8;
    const unsigned row = values + key * dim * 2;
#pragma unroll
    for (int i = 0; i < dim / 16; ++i) {
      unsigned b[4];
      sm80::load_matrices_transposed(b, row + (((2 * i + matrix / 2) ^ (key & 7)) * 16));
      sm80::mma(result[2 * i], p, b[0], b[1]);
      sm80::mma(result[2 * i + 1], p, b[2], b[3]);
    }
  }

  __device__ void finish() {
    for (int half = 0; half < 2; ++half) {
      sum[half] += __shfl_xor_sync(0xffffffffU, sum[half], 1);
      sum[half] += __shfl_xor_sync(0xffffffffU, sum[half], 2);
    }
  }
};

/// What is known of a range of entries: for each query (highest, sum), and result (dim).
struct Merged {
  float highest, sum;
};

template <int dim>
constexpr int stage_bytes = 2 * block_entries* dim * 2;

// Registers for two blocks a multiprocessor, though shared memory has room for one: a block then
// fits beside one of few_rows_cuda.cu, and reads its first entries while the kernel before still
// runs.
template <int dim, bool wide>
__global__ void __launch_bounds__(max_warps * 32, 2)
    attend_steps_kernel(const Params p, const Group group) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ bool is_last;
  __shared__ float2 turns[dim / 2];  // cosine and sine of the row's angles
  constexpr int pieces = dim / 8;    // of 16 bytes, in a row
  let_next_start();

  // The cache is as the step before left it: it is read ahead while the kernels of this step that
  // give the query still run.
  const int splits = gridDim.x;
  const int split = blockIdx.x;
  const int head = blockIdx.y;
  const CachedLayer& cache = group.cache[blockIdx.z];
  const std::int64_t row = group.row[blockIdx.z];
  const int warps = blockDim.x / 32;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const std::int64_t length = cache.lengths[head];
  std::byte* const* pages = cache.pages + head * cache.page_capacity;

  // This warp's share of the blocks of entries.
  const std::int64_t oldest_entry =
      p.window > 0
          ? first_visible(pages, length, p.positions[row] - p.window + 1, p.page_tokens, dim, lane)
          : 0;
  const std::int64_t first_block = oldest_entry / block_entries;
  const std::int64_t blocks = (length + block_entries - 1) / block_entries - first_block;
  const int workers = splits * warps;
  const int worker = split * warps + warp;
  const std::int64_t begin = first_block + blocks * worker / workers;
  const std::int64_t end = first_block + blocks * (worker + 1) / workers;
  const int blocks_per_page = p.page_tokens / block_entries;

  const unsigned ring = shared_address(shared) + warp * stages * stage_bytes<dim>;
  const auto keys_of = [&](std::int64_t i) {
    return ring + static_cast<unsigned>(i % stages) * stage_bytes<dim>;
  };
  constexpr unsigned values_behind = block_entries * dim * 2;

  // Lane l knows the page of block known_first + l.
  std::int64_t known_first = begin - 32;
  const std::byte* known_page = nullptr;
  const auto fetch = [&](std::int64_t block) {
    if (block < end) {
      if (block - known_first >= 32) {
        known_first = block;
        const std::int64_t mine = min(block + lane, end - 1);
        known_page = pages[mine / blocks_per_page];
      }
      const auto page = reinterpret_cast<const std::byte*>(
          __shfl_sync(0xffffffffU, reinterpret_cast<unsigned long long>(known_page),
                      static_cast<int>(block - known_first)));
      const int slot = static_cast<int>(block % blocks_per_page) * block_entries;
      const unsigned to = keys_of(block - begin);
#pragma unroll
      for (int i = 0; i < block_entries * pieces / 32; ++i) {
        const int entry = (i * 32 + lane) / pieces;
        const int piece = lane % pieces;
        const bool valid = block * block_entries + entry < length;
        const std::byte* from = page + ((slot + entry) * dim + piece * 8) * 2;
        const unsigned at = to + entry * dim * 2 + ((piece ^ (entry & 7)) * 16);
        sm80::copy_async<true>(at, from, !valid);
        sm80::copy_async<true>(at + values_behind, from + std::int64_t{2} * p.page_tokens * dim,
                               !valid);
      }
    }
    sm80::copy_commit();  // also where nothing is left: the groups are counted
  };

  Softmax<dim, wide> softmax;
  for (int i = 0; i < stages - 1; ++i) fetch(begin + i);
  if (p.frequencies) {  // angles need the position alone, so they need not wait
    for (int d = static_cast<int>(threadIdx.x); d < dim / 2; d += static_cast<int>(blockDim.x)) {
      float sine, cosine;
      sincosf(static_cast<float>(p.positions[row]) * p.frequencies[d], &sine, &cosine);
      turns[d] = make_float2(cosine, sine);
    }
    __syncthreads();
  }
  wait_for_inputs();
  unsigned q[dim / 16][4];
  {
    const __nv_bfloat16* from =
        p.q + row * p.q_stride + static_cast<std::int64_t>(head) * p.queries * dim;
    const auto pair = [&](int query, int column) -> unsigned {
      if (query >= p.queries) return 0;
      return *reinterpret_cast<const unsigned*>(from + query * dim + column);
    };
#pragma unroll
    for (int i = 0; i < dim / 16; ++i) {
      const int column = i * 16 + lane % 4 * 2;
      q[i][0] = pair(lane / 4, column);
      q[i][1] = wide ? pair(lane / 4 + 8, column) : 0;
      q[i][2] = pair(lane / 4, column + 8);
      q[i][3] = wide ? pair(lane / 4 + 8, column + 8) : 0;
    }
    if (p.frequencies) {
#pragma unroll
      for (int i = 0; i < dim / 32; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          // The columns of this thread's fragments, below half a head.
          const float2* turn = turns + i * 16 + j * 8 + lane % 4 * 2;
          rotate(q[i][2 * j], q[i + dim / 32][2 * j], turn);
          if (wide) rotate(q[i][2 * j + 1], q[i + dim / 32][2 * j + 1], turn);
        }
      }
    }
  }

  for (std::int64_t block = begin; block < end; ++block) {
    sm80::copy_wait<stages - 2>();
    __syncwarp();
    fetch(block + stages - 1);
    const unsigned keys = keys_of(block - begin);
    const std::int64_t entry = block * block_entries;
    softmax.add(q, keys, keys + values_behind,
                static_cast<int>(max(oldest_entry - entry, std::int64_t{0})),
                static_cast<int>(min(length - entry, std::int64_t{block_entries})), p.scale, lane);
    __syncwarp();
  }
  sm80::copy_wait<0>();
  __syncwarp();
  if (worker == 0) {
    // The row itself, which is not cached yet, as a block with one entry.
    const std::int64_t kv_head = head / p.cached_per_kv;
    const __nv_bfloat16* k = p.k + row * p.k_stride + kv_head * dim;
    const __nv_bfloat16* v = p.v + row * p.v_stride + kv_head * dim;
    unsigned char* to = shared + warp * stages * stage_bytes<dim>;
    for (int i = lane; i < stage_bytes<dim> / 16; i += 32) {
      const int entry = i / pieces % block_entries;
      const int piece = i % pieces;
      const bool is_value = i >= block_entries * pieces;
      uint4 data{0, 0, 0, 0};
      if (entry == 0) data = reinterpret_cast<const uint4*>(is_value ? v : k)[piece];
      reinterpret_cast<uint4*>(to)[i - piece + (piece ^ (entry & 7))] = data;
    }
    __syncwarp();
    auto* staged_key = reinterpret_cast<unsigned*>(to);  // entry 0 is not swizzled
    auto* staged_value = staged_key + values_behind / 4;
    if (p.frequencies && 2 * lane < dim / 2)
      rotate(staged_key[lane], staged_key[lane + dim / 4], turns + 2 * lane);
    __syncwarp();
    softmax.add(q, ring, ring + values_behind, 0, 1, p.scale, lane);
    if (p.append) {
      std::byte* page = pages[length / p.page_tokens];
      const std::int64_t slot = length % p.page_tokens;
      auto* keys = reinterpret_cast<__nv_bfloat16*>(page) + slot * dim;
      for (int i = lane; i < 2 * pieces; i += 32) {
        const int piece = i % pieces;
        auto* at = i < pieces ? keys : keys + std::int64_t{p.page_tokens} * dim;
        reinterpret_cast<uint4*>(at)[piece] =
            reinterpret_cast<const uint4*>(i < pieces ? staged_key : staged_value)[piece];
      }
      if (lane == 0) {
        reinterpret_cast<std::int32_t*>(page + std::int64_t{4} * p.page_tokens * dim)[slot] =
            p.positions[row];
      }
    }
  }
  softmax.finish();
  __syncthreads();

  // The block's warps: states (warps, max_queries), results (warps, queries, dim).
  auto* states = reinterpret_cast<Merged*>(shared);
  auto* results = reinterpret_cast<float*>(states + warps * max_queries);
#pragma unroll
  for (int half = 0; half < (wide ? 2 : 1); ++half) {
    const int query = lane / 4 + 8 * half;
    if (query >= p.queries) continue;
    if (lane % 4 == 0)
      states[warp * max_queries + query] = {softmax.highest[half], softmax.sum[half]};
    float* to = results + (warp * p.queries + query) * dim + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) {
      to[n * 8] = softmax.result[n][2 * half];
      to[n * 8 + 1] = softmax.result[n][2 * half + 1];
    }
  }
  __syncthreads();
  const int unit = blockIdx.z * gridDim.y + head;
  const int per_split = p.queries * (dim + 2);
  float* partial = p.partials + (static_cast<std::int64_t>(unit) * splits + split) * per_split;
  __nv_bfloat16* out =
      p.out + row * p.out_stride + static_cast<std::int64_t>(head) * p.queries * dim;
  for (int i = threadIdx.x; i < p.queries * dim; i += blockDim.x) {
    const int query = i / dim;
    float most = -INFINITY;
    for (int w = 0; w < warps; ++w) most = fmaxf(most, states[w * max_queries + query].highest);
    const float base = most == -INFINITY ? 0.0F : most;
    float sum = 0, value = 0;
    for (int w = 0; w < warps; ++w) {
      const Merged& state = states[w * max_queries + query];
      const float weight = exp2f(state.highest - base);
      sum += weight * state.sum;
      value += weight * results[w * p.queries * dim + i];
    }
    if (splits == 1) {
      out[i] = __float2bfloat16_rn(value / sum);
    } else {
      partial[2 * p.queries + i] = value;
      if (i % dim == 0) {
        partial[query] = most;
        partial[p.queries + query] = sum;
      }
    }
  }
  // Nobody reads the length any more once all blocks of the head have got here.
  const auto advance = [&] {
    if (p.append && threadIdx.x == 0) cache.lengths[head] = static_cast<std::int32_t>(length + 1);
  };
  if (splits == 1) {
    __syncthreads();
    return advance();
  }

  // The last block of this head to get here merges all of them.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&p.tickets[unit], 1) == splits - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  const float* all = p.partials + static_cast<std::int64_t>(unit) * splits * per_split;
  for (int i = threadIdx.x; i < p.queries * dim; i += blockDim.x) {
    const int query = i / dim;
    float most = -INFINITY, sum = 0, value = 0;
    // Everything of several splits is under way at a time: what is far counts by the round trip.
    constexpr int together = 16;
    for (int first = 0; first < splits; first += together) {
      float highest[together], share[together], result[together];
#pragma unroll
      for (int j = 0; j < together; ++j) {
        const float* from = all + min(first + j, splits - 1) * per_split;
        highest[j] = __ldcg(from + query);
        share[j] = __ldcg(from + p.queries + query);
        result[j] = __ldcg(from + 2 * p.queries + i);
      }
      float highest_here = most;
#pragma unroll
      for (int j = 0; j < together; ++j) highest_here = fmaxf(highest_here, highest[j]);
      const float keep = exp2f(most - highest_here);  // the row itself is seen: not both infinite
      sum *= keep;
      value *= keep;
      most = highest_here;
#pragma unroll
      for (int j = 0; j < together; ++j) {
        if (first + j >= splits) continue;
        const float weight = exp2f(highest[j] - most);
        sum += weight * share[j];
        value += weight * result[j];
      }
    }
    out[i] = __float2bfloat16_rn(value / sum);
  }
  if (threadIdx.x == 0) p.tickets[unit] = 0;
  advance();
}

template <int dim, bool wide>
void start(const Params& p, const Group& group, dim3 grid, cudaStream_t stream) {
  constexpr std::size_t a_warp = stages * stage_bytes<dim>;
  // The rest of the limit is for variables.
  const std::size_t warps = std::min<std::size_t>(max_warps, (shared_limit() - 1024) / a_warp);
  allow_shared(attend_steps_kernel<dim, wide>, warps * a_warp);
  launch("attend_steps_kernel", attend_steps_kernel<dim, wide>, grid,
         static_cast<unsigned>(warps * 32), warps * a_warp, stream, true, p, group);
}

}  // namespace

void attend_steps(const AttentionArgs& a, std::span<const AttentionSegment> segments, bool append,
                  const DecodeWorkspace& workspace, cudaStream_t stream) {
  assert(!segments.empty() && segments.size() <= decode_group);
  const std::int64_t dim = a.q.shape[2];
  const std::int64_t heads = segments.front().cached.heads;
  const std::int64_t queries = a.q.shape[1] / heads;
  Group group{};
  std::int64_t capacity = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    group.cache[i] = segments[i].cached;
    group.row[i] = static_cast<std::int32_t>(segments[i].first_row);
    capacity = std::max(capacity, segments[i].cached.page_capacity);
  }
  const Params p{.q = static_cast<const __nv_bfloat16*>(a.q.data),
                 .k = static_cast<const __nv_bfloat16*>(a.k.data),
                 .v = static_cast<const __nv_bfloat16*>(a.v.data),
                 .q_stride = a.q.row_stride,
                 .k_stride = a.k.row_stride,
                 .v_stride = a.v.row_stride,
                 .positions = static_cast<const std::int32_t*>(a.positions.data),
                 .out = static_cast<__nv_bfloat16*>(a.out.data),
                 .out_stride = a.out.row_stride,
                 .partials = workspace.partials,
                 .tickets = workspace.tickets,
                 .queries = static_cast<int>(queries),
                 .cached_per_kv = static_cast<int>(heads / a.k.shape[1]),
                 .page_tokens = static_cast<int>(a.layout.page_tokens),
                 .window = a.sliding_window,
                 .append = append,
                 .frequencies = static_cast<const float*>(a.rope_frequencies.data),
                 .scale = 1.44269504088896F / sqrtf(static_cast<float>(dim))};
  // One block a multiprocessor fills it (shared memory; two where heads are small); a block should
  // have 128 entries at least, and its share of the workspace.
  const auto units = static_cast<std::int64_t>(segments.size()) * heads;
  assert(units <= workspace.ticket_count);
  std::int64_t splits = std::max<std::int64_t>(1, (dim == 64 ? 2 : 1) * multiprocessors() / units);
  splits = std::min(splits, std::max<std::int64_t>(1, capacity * a.layout.page_tokens / 128));
  splits = std::min(splits, workspace.partial_count / (units * queries * (dim + 2)));
  splits = std::max<std::int64_t>(splits, 1);
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(heads),
                  static_cast<unsigned>(segments.size()));
  const bool wide = queries > 8;
  if (dim == 64) {
    wide ? start<64, true>(p, group, grid, stream) : start<64, false>(p, group, grid, stream);
  } else {
    wide ? start<128, true>(p, group, grid, stream) : start<128, false>(p, group, grid, stream);
  }
}

}  // namespace fastkv::cuda
