#include <string>

#include "ops/attention_any_cuda.h"
#include "ops/cuda_support.h"

// A block takes 16 queries of one head through the keys, 32 at a time: a lane has a key when logits
// are computed, and some dimensions when values are added up. Each of the four warps has four of
// the queries.

namespace fastkv::cuda {
namespace {

constexpr int warps = 4;
constexpr int rows_each = 4;
constexpr int tile_rows = warps * rows_each;
constexpr int tile_keys = 32;
constexpr int max_dim = 256;

template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
  int heads;

  __device__ const T* at(std::int64_t row, int head, int dim) const {
    return data + row * stride + static_cast<std::int64_t>(head) * dim;
  }
};

template <class T>
Rows<T> rows_of(const View& view) {
  return {static_cast<const T*>(view.data), view.row_stride, static_cast<int>(view.shape[1])};
}

/// What a block of threads holds of keys, values and queries.
struct Tile {
  float* q;                 // (tile_rows, dim)
  float* k;                 // (tile_keys, dim + 1): lanes read a column each without conflicts
  float* v;                 // (tile_keys, dim)
  std::int32_t* positions;  // (tile_keys)

  static std::size_t bytes(int dim) {
    return sizeof(float) * static_cast<std::size_t>(tile_rows * dim + tile_keys * (dim + 1) +
                                                    tile_keys * dim + tile_keys);
  }
  __device__ Tile(float* shared, int dim)
      : q(shared),
        k(q + tile_rows * dim),
        v(k + tile_keys * (dim + 1)),
        positions(reinterpret_cast<std::int32_t*>(v + tile_keys * dim)) {}
};

template <class T, class Cached, class Out>
__global__ void __launch_bounds__(warps * 32)
    attend_any_kernel(Rows<T> q, Rows<T> k, Rows<T> v, const std::int32_t* positions,
                      AttentionSegment segment, PageLayout layout, std::int64_t window, int dim,
                      float scale, Out* out, std::int64_t out_stride, float* log_sum_exp,
                      std::int64_t log_sum_exp_stride) {
  extern __shared__ float shared[];
  const Tile tile(shared, dim);
  const int head = blockIdx.y;
  const int kv_head = head / (q.heads / k.heads);
  const std::int64_t tile_first = static_cast<std::int64_t>(blockIdx.x) * tile_rows;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  std::byte* const* pages = nullptr;
  std::int64_t cached = 0;
  if (segment.cached.heads > 0) {
    const std::int64_t cached_head = head / (q.heads / segment.cached.heads);
    pages = segment.cached.pages + cached_head * segment.cached.page_capacity;
    cached = segment.cached.lengths[cached_head];
  }
  for (int i = threadIdx.x; i < tile_rows * dim; i += warps * 32) {
    const std::int64_t row = tile_first + i / dim;
    tile.q[i] = row < segment.rows
                    ? to_float(q.at(segment.first_row + row, head, dim)[i % dim]) * scale
                    : 0.0F;
  }
  float highest[rows_each], sum[rows_each], result[rows_each][max_dim / 32];
  for (int r = 0; r < rows_each; ++r) {
    highest[r] = -INFINITY;
    sum[r] = 0;
    for (int i = 0; i < max_dim / 32; ++i) result[r][i] = 0;
  }
  const std::int64_t last_row = min(tile_first + tile_rows, segment.rows) - 1;
  const std::int64_t block = layout.page_tokens * layout.head_dim;
  for (std::int64_t first = 0; first < cached + last_row + 1; first += tile_keys) {
    __syncthreads();
    for (int i = threadIdx.x; i < tile_keys * dim; i += warps * 32) {
      const std::int64_t entry = first + i / dim;
      const int d = i % dim;
      float key = 0, value = 0;
      std::int32_t position = 0;
      if (entry < cached) {
        const std::byte* page = pages[entry / layout.page_tokens];
        const std::int64_t slot = entry % layout.page_tokens;
        const auto* keys = reinterpret_cast<const Cached*>(page);
        key = to_float(keys[slot * dim + d]);
        value = to_float(keys[block + slot * dim + d]);
        position = reinterpret_cast<const std::int32_t*>(keys + 2 * block)[slot];
      } else if (entry < cached + segment.rows) {
        const std::int64_t row = segment.first_row + entry - cached;
        key = to_float(k.at(row, kv_head, dim)[d]);
        value = to_float(v.at(row, kv_head, dim)[d]);
        position = positions[row];
      }
      tile.k[i / dim * (dim + 1) + d] = key;
      tile.v[i] = value;
      if (d == 0) tile.positions[i / dim] = position;
    }
    __syncthreads();

    float logit[rows_each] = {};
    for (int d = 0; d < dim; ++d) {
      const float key = tile.k[lane * (dim + 1) + d];
      for (int r = 0; r < rows_each; ++r)
        logit[r] = fmaf(tile.q[(warp * rows_each + r) * dim + d], key, logit[r]);
    }
    for (int r = 0; r < rows_each; ++r) {
      const std::int64_t row = tile_first + warp * rows_each + r;
      bool visible = row < segment.rows && first + lane <= cached + row;
      if (visible && window > 0)
        visible = tile.positions[lane] > positions[segment.first_row + row] - window;
      const float own = visible ? logit[r] : -INFINITY;
      const float new_highest = fmaxf(highest[r], warp_max(own));
      if (new_highest == -INFINITY) {
        logit[r] = 0;
        continue;
      }
      const float keep = exp2f(highest[r] - new_highest);
      logit[r] = exp2f(own - new_highest);
      sum[r] = sum[r] * keep + warp_sum(logit[r]);
      highest[r] = new_highest;
      for (int i = 0; i < max_dim / 32; ++i) result[r][i] *= keep;
    }
    for (int key = 0; key < tile_keys; ++key) {
      float weight[rows_each];
      for (int r = 0; r < rows_each; ++r) weight[r] = __shfl_sync(0xffffffffU, logit[r], key);
#pragma unroll
      for (int i = 0; i < max_dim / 32; ++i) {
        const int d = lane + 32 * i;
        if (d >= dim) break;
        const float value = tile.v[key * dim + d];
        for (int r = 0; r < rows_each; ++r) result[r][i] = fmaf(weight[r], value, result[r][i]);
      }
    }
  }
  for (int r = 0; r < rows_each; ++r) {
    const std::int64_t row = tile_first + warp * rows_each + r;
    if (row >= segment.rows) break;
    Out* to = out + (segment.first_row + row) * out_stride + static_cast<std::int64_t>(head) * dim;
#pragma unroll
    for (int i = 0; i < max_dim / 32; ++i) {
      const int d = lane + 32 * i;
      if (d < dim) to[d] = from_float<Out>(result[r][i] / sum[r]);
    }
    if (log_sum_exp && lane == 0) {
      log_sum_exp[(segment.first_row + row) * log_sum_exp_stride + head] =
          (highest[r] + log2f(sum[r])) * 0.693147180559945F;
    }
  }
}

/// Whether the query at row i sees the key of row j.
__device__ bool sees(const std::int32_t* positions, std::int64_t window, std::int64_t i,
                     std::int64_t j) {
  return j <= i && (window <= 0 || positions[j] > positions[i] - window);
}

template <class T>
__global__ void log_sum_exp_kernel(Rows<T> q, Rows<T> k, const std::int32_t* positions,
                                   std::int64_t n, std::int64_t rows, std::int64_t window, int dim,
                                   float scale, float* out) {
  __shared__ float query[max_dim];
  __shared__ float scratch[32];
  const std::int64_t row = n - rows + blockIdx.x;
  const int head = blockIdx.y;
  const int kv_head = head / (q.heads / k.heads);
  for (int d = threadIdx.x; d < dim; d += blockDim.x)
    query[d] = to_float(q.at(row, head, dim)[d]) * scale;
  __syncthreads();
  float highest = -INFINITY, sum = 0;
  for (std::int64_t j = threadIdx.x; j <= row; j += blockDim.x) {
    if (!sees(positions, window, row, j)) continue;
    const T* key = k.at(j, kv_head, dim);
    float logit = 0;
    for (int d = 0; d < dim; ++d) logit = fmaf(query[d], to_float(key[d]), logit);
    const float higher = fmaxf(highest, logit);
    sum = sum * exp2f(highest - higher) + exp2f(logit - higher);
    highest = higher;
  }
  // The highest of all threads, by way of the sum's scratch.
  float most = warp_max(highest);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = most;
  __syncthreads();
  most = threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : -INFINITY;
  most = warp_max(most);
  __syncthreads();
  const float total = block_sum(highest == -INFINITY ? 0.0F : sum * exp2f(highest - most), scratch);
  if (threadIdx.x == 0)
    out[blockIdx.x * q.heads + head] = (most + log2f(total)) * 0.693147180559945F;
}

/// A block has 32 keys of a head; its warps share the queries.
template <class T>
__global__ void __launch_bounds__(warps * 32)
    column_sums_kernel(Rows<T> q, Rows<T> k, const std::int32_t* positions, std::int64_t n,
                       std::int64_t rows, std::int64_t window, int dim, float scale,
                       const float* log_sum_exp, std::int64_t log_sum_exp_stride,
                       const float* weights, float* out, std::int64_t out_stride) {
  extern __shared__ float shared[];
  const Tile tile(shared, dim);
  const int head = blockIdx.y;
  const int kv_head = head / (q.heads / k.heads);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * tile_keys;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < tile_keys * dim; i += warps * 32) {
    const std::int64_t row = first + i / dim;
    tile.k[i / dim * (dim + 1) + i % dim] =
        row < n ? to_float(k.at(row, kv_head, dim)[i % dim]) : 0.0F;
  }
  const std::int64_t key = first + lane;
  const std::int64_t begin = max(first, n - rows);
  float total = 0, sum = 0;
  int parts = 0;
  for (std::int64_t tile_first = begin; tile_first < n; tile_first += tile_rows) {
    __syncthreads();
    for (int i = threadIdx.x; i < tile_rows * dim; i += warps * 32) {
      const std::int64_t row = tile_first + i / dim;
      tile.q[i] = row < n ? to_float(q.at(row, head, dim)[i % dim]) * scale : 0.0F;
    }
    __syncthreads();
    float logit[rows_each] = {};
    for (int d = 0; d < dim; ++d) {
      const float value = tile.k[lane * (dim + 1) + d];
      for (int r = 0; r < rows_each; ++r)
        logit[r] = fmaf(tile.q[(warp * rows_each + r) * dim + d], value, logit[r]);
    }
    for (int r = 0; r < rows_each; ++r) {
      const std::int64_t row = tile_first + warp * rows_each + r;
      if (row >= n || key >= n || !sees(positions, window, row, key)) continue;
      const float denominator = log_sum_exp[(row - (n - rows)) * log_sum_exp_stride + head];
      const float p = exp2f(logit[r] - denominator * 1.44269504088896F);
      sum += weights ? weights[row - (n - rows)] * p : p;
    }
    if (++parts % 16 == 0) {  // in pieces: long sums lose no more than short ones
      total += sum;
      sum = 0;
    }
  }
  __syncthreads();
  float* sums = tile.q;  // (warps, tile_keys)
  sums[warp * tile_keys + lane] = total + sum;
  __syncthreads();
  if (warp == 0 && key < n) {
    float all = 0;
    for (int w = 0; w < warps; ++w) all += sums[w * tile_keys + lane];
    out[head * out_stride + key] = all;
  }
}

float scale_for(int dim) { return 1.44269504088896F / sqrtf(static_cast<float>(dim)); }

template <class T, class Cached>
void start_attend(const AttentionArgs& a, const AttentionSegment& segment, cudaStream_t stream) {
  const int dim = static_cast<int>(a.q.shape[2]);
  const auto kernel = attend_any_kernel<T, Cached, T>;
  allow_shared(kernel, Tile::bytes(dim));
  launch("attend_any_kernel", kernel,
         dim3(blocks_for(segment.rows, tile_rows), static_cast<unsigned>(a.q.shape[1])), warps * 32,
         Tile::bytes(dim), stream, false, rows_of<T>(a.q), rows_of<T>(a.k), rows_of<T>(a.v),
         static_cast<const std::int32_t*>(a.positions.data), segment, a.layout, a.sliding_window,
         dim, scale_for(dim), static_cast<T*>(a.out.data), a.out.row_stride,
         static_cast<float*>(a.log_sum_exp.data), a.log_sum_exp.row_stride);
}

void check_dim(std::int64_t dim) {
  if (dim <= max_dim) return;
  refuse("a model whose heads have " + std::to_string(dim) +
         " numbers cannot run on the GPU, which takes up to " + std::to_string(max_dim) +
         "; use --device cpu");
}

}  // namespace

void attend_any(const AttentionArgs& a, std::span<const AttentionSegment> segments,
                cudaStream_t stream) {
  check_dim(a.q.shape[2]);
  for (const AttentionSegment& s : segments) {
    if (s.rows == 0) continue;
    const bool narrow = a.q.type == DType::bf16;
    const bool narrow_cache = a.layout.type == DType::bf16;
    if (narrow && narrow_cache) {
      start_attend<__nv_bfloat16, __nv_bfloat16>(a, s, stream);
    } else if (narrow) {
      start_attend<__nv_bfloat16, float>(a, s, stream);
    } else if (narrow_cache) {
      start_attend<float, __nv_bfloat16>(a, s, stream);
    } else {
      start_attend<float, float>(a, s, stream);
    }
  }
}

void any_log_sum_exp(const ColumnSumArgs& a, float* log_sum_exp, cudaStream_t stream) {
  check_dim(a.q.shape[2]);
  const int dim = static_cast<int>(a.q.shape[2]);
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>(a.q.shape[1]));
  const auto start = [&]<class T>(T*) {
    launch("log_sum_exp_kernel", log_sum_exp_kernel<T>, grid, 256, 0, stream, false,
           rows_of<T>(a.q), rows_of<T>(a.k), static_cast<const std::int32_t*>(a.positions.data),
           a.q.rows(), a.rows, a.sliding_window, dim, scale_for(dim), log_sum_exp);
  };
  if (a.q.type == DType::f32) {
    start(static_cast<float*>(nullptr));
  } else {
    start(static_cast<__nv_bfloat16*>(nullptr));
  }
}

void any_column_sums(const ColumnSumArgs& a, const float* log_sum_exp,
                     std::int64_t log_sum_exp_stride, const float* row_weights,
                     cudaStream_t stream) {
  check_dim(a.q.shape[2]);
  const int dim = static_cast<int>(a.q.shape[2]);
  const dim3 grid(blocks_for(a.k.rows(), tile_keys), static_cast<unsigned>(a.q.shape[1]));
  const auto start = [&]<class T>(T*) {
    allow_shared(column_sums_kernel<T>, Tile::bytes(dim));
    launch("column_sums_kernel", column_sums_kernel<T>, grid, warps * 32, Tile::bytes(dim), stream,
           false, rows_of<T>(a.q), rows_of<T>(a.k),
           static_cast<const std::int32_t*>(a.positions.data), a.q.rows(), a.rows, a.sliding_window,
           dim, scale_for(dim), log_sum_exp, log_sum_exp_stride, row_weights,
           static_cast<float*>(a.out.data), a.out.row_stride);
  };
  if (a.q.type == DType::f32) {
    start(static_cast<float*>(nullptr));
  } else {
    start(static_cast<__nv_bfloat16*>(nullptr));
  }
}

}  // namespace fastkv::cuda
