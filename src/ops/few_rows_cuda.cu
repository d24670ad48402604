#include <algorithm>
#include <cassert>
#include <type_traits>

#include "ops/cuda_support.h"
#include "ops/few_rows_cuda.h"
#include "ops/tensor_core_units.cuh"

// A block computes tiles of 16 outputs (16 rows of W) for all rows of x with tensor cores: W is the
// A operand of mma.m16n8k16, x the B operand. The block's eight warps share the depth K. A thread
// loads 16 consecutive bytes of a row of W; as the order of a dot product's terms is free, these
// eight numbers simply are declared to be those k that the instruction wants from this thread, and
// x is read in the same order. Blocks stay for several tiles, so that loads never pause: while one
// piece is multiplied the next one, maybe of the next tile, is on its way.

namespace fastkv::cuda {
namespace {

constexpr int warps = 8;
constexpr int tile_rows = 16;
constexpr int max_rows = 8;
// Two blocks share a multiprocessor, where compute capability 8.0 has 164 KB.
constexpr std::int64_t max_staged = 70 * 1024;
constexpr int chunk = 128;  // columns of W that a warp takes at a time

/// Weights are read once: they need not stay in the first-level cache.
__device__ uint4 load_streaming(const __nv_bfloat16* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

struct Params {
  const void* x;  // bfloat16, or X of the template where it is normalised
  const __nv_bfloat16* weight;
  void* out;
  const float* norm;
  std::int64_t x_stride, weight_stride, out_stride;
  std::int64_t gate_rows;  // I where gated
  int rows, depth, outputs, tiles;
  float epsilon;
};

/// Eight numbers of x, float32 or bfloat16, from a 16-byte border.
__device__ void load_eight(const float* from, float (&to)[8]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}
__device__ void load_eight(const __nv_bfloat16* from, float (&to)[8]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const auto* pair = reinterpret_cast<const __nv_bfloat162*>(&packed);
  for (int i = 0; i < 4; ++i) {
    const float2 f = __bfloat1622float2(pair[i]);
    to[2 * i] = f.x;
    to[2 * i + 1] = f.y;
  }
}

/// A row of x times the norm's weights, by `threads` threads, of which this is number `thread`.
/// Returns this thread's part of the sum of squares: the scale follows when the product is done, so
/// x is read once.
template <class X>
__device__ float stage_row(const Params& p, const X* x, __nv_bfloat16* to, int thread,
                           int threads) {
  float squares = 0;
  float value[8], norm[8];
#pragma unroll 4
  for (int k = thread * 8; k < p.depth; k += threads * 8) {
    load_eight(x + k, value);
    load_eight(p.norm + k, norm);
    uint4 result;
    auto* out = reinterpret_cast<__nv_bfloat162*>(&result);
    for (int i = 0; i < 4; ++i) {
      squares += value[2 * i] * value[2 * i] + value[2 * i + 1] * value[2 * i + 1];
      out[i] =
          __floats2bfloat162_rn(value[2 * i] * norm[2 * i], value[2 * i + 1] * norm[2 * i + 1]);
    }
    *reinterpret_cast<uint4*>(to + k) = result;
  }
  return squares;
}

/// x into shared memory, (rows, depth + 8) bfloat16, and by how much each row has yet to be scaled:
/// a warp a row, but a single row by all threads, as a warp alone would take too long.
template <class X>
__device__ void stage(const Params& p, __nv_bfloat16* to, float* scales, float* scratch) {
  const auto* x = static_cast<const X*>(p.x);
  const auto thread = static_cast<int>(threadIdx.x);
  const auto scale = [&](float squares) {
    return rsqrtf(squares / static_cast<float>(p.depth) + p.epsilon);
  };
  if (p.rows == 1) {
    const float squares = block_sum(stage_row(p, x, to, thread, warps * 32), scratch);
    if (thread == 0) scales[0] = scale(squares);
  } else if (const int row = thread / 32; row < p.rows) {
    const float squares =
        warp_sum(stage_row(p, x + row * p.x_stride, to + row * (p.depth + 8), thread % 32, 32));
    if (thread % 32 == 0) scales[row] = scale(squares);
  }
  __syncthreads();
}

/// X: float or bfloat16 where x is normalised first, else void.
template <FewRows kind, class X, class Out>
__global__ void __launch_bounds__(warps * 32, 2) few_rows_kernel(const Params p) {
  constexpr bool normed = !std::is_void_v<X>;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float sums[2][warps][tile_rows][max_rows + 1];
  __shared__ float scratch[32];
  __shared__ float scales[max_rows];
  let_next_start();

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;   // row of W in the tile, and column of the result
  const int column = lane % 4;  // which eight of 32 columns
  const int first_k = warp * chunk;

  // The piece of W that comes next: rows `group` and `group` + 8 of a tile, from column next_k.
  int next_tile = blockIdx.x;
  int next_k = first_k;
  uint4 next_low[4], next_high[4];
  const auto load_next = [&] {
    if (next_tile >= p.tiles || first_k >= p.depth) return;
    std::int64_t low, high;
    if (kind == FewRows::gated) {
      low = static_cast<std::int64_t>(next_tile) * 8 + group;
      high = p.gate_rows + low;
    } else {  // behind the end the last row is read again
      const std::int64_t last = p.outputs - 1;
      low = min(static_cast<std::int64_t>(next_tile) * tile_rows + group, last);
      high = min(static_cast<std::int64_t>(next_tile) * tile_rows + group + 8, last);
    }
    const __nv_bfloat16* w_low = p.weight + low * p.weight_stride + column * 8 + next_k;
    const __nv_bfloat16* w_high = p.weight + high * p.weight_stride + column * 8 + next_k;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      next_low[i] = load_streaming(w_low + 32 * i);
      next_high[i] = load_streaming(w_high + 32 * i);
    }
    next_k += warps * chunk;
    if (next_k >= p.depth) {
      next_k = first_k;
      next_tile += static_cast<int>(gridDim.x);
    }
  };
  load_next();  // weights do not depend on the kernels before this one
  wait_for_inputs();

  const __nv_bfloat16* x;
  if constexpr (normed) {
    auto* staged = reinterpret_cast<__nv_bfloat16*>(shared);
    stage<X>(p, staged, scales, scratch);
    x = staged + group * (p.depth + 8) + column * 8;
  } else {
    x = static_cast<const __nv_bfloat16*>(p.x) + group * p.x_stride + column * 8;
  }
  const bool has_row = group < p.rows;
  int buffer = 0;
  for (int tile = blockIdx.x; tile < p.tiles; tile += static_cast<int>(gridDim.x)) {
    float c[4] = {0, 0, 0, 0};
    for (int k = first_k; k < p.depth; k += warps * chunk) {
      uint4 now_low[4], now_high[4], now_x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        now_low[i] = next_low[i];
        now_high[i] = next_high[i];
        now_x[i] = has_row ? *reinterpret_cast<const uint4*>(x + k + 32 * i) : uint4{0, 0, 0, 0};
      }
      load_next();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sm80::mma(c, {now_low[i].x, now_high[i].x, now_low[i].y, now_high[i].y}, now_x[i].x,
                  now_x[i].y);
        sm80::mma(c, {now_low[i].z, now_high[i].z, now_low[i].w, now_high[i].w}, now_x[i].z,
                  now_x[i].w);
      }
    }
    sums[buffer][warp][group][2 * column] = c[0];
    sums[buffer][warp][group][2 * column + 1] = c[1];
    sums[buffer][warp][group + 8][2 * column] = c[2];
    sums[buffer][warp][group + 8][2 * column + 1] = c[3];
    __syncthreads();

    // The warps' shares are added in one order, always. The next tile has the other buffer, so one
    // barrier a tile is enough.
    const int line = threadIdx.x % tile_rows;
    const int row = static_cast<int>(threadIdx.x) / tile_rows;
    if (row < p.rows) {
      const auto total = [&](int l) {
        float sum = 0;
        for (int w = 0; w < warps; ++w) sum += sums[buffer][w][l][row];
        return normed ? sum * scales[row] : sum;
      };
      auto* out = static_cast<Out*>(p.out) + row * p.out_stride;
      if (kind == FewRows::gated) {
        if (line < 8) {
          const float gate = total(line);
          const float up = total(line + 8);
          out[static_cast<std::int64_t>(tile) * 8 + line] =
              from_float<Out>(gate / (1.0F + __expf(-gate)) * up);
        }
      } else {
        const std::int64_t at = static_cast<std::int64_t>(tile) * tile_rows + line;
        if (at < p.outputs) {
          const float sum = total(line);
          out[at] = from_float<Out>(kind == FewRows::accumulate ? to_float(out[at]) + sum : sum);
        }
      }
    }
    buffer ^= 1;
  }
}

template <FewRows kind, class X, class Out>
void start(const Params& p, cudaStream_t stream) {
  const std::size_t shared = std::is_void_v<X> ? 0
                                               : static_cast<std::size_t>(p.rows) *
                                                     static_cast<std::size_t>(p.depth + 8) * 2;
  if (shared > 32 * 1024) allow_shared(few_rows_kernel<kind, X, Out>, shared);
  const auto blocks = static_cast<unsigned>(std::min(p.tiles, 2 * multiprocessors()));
  launch("few_rows_kernel", few_rows_kernel<kind, X, Out>, dim3(blocks), warps * 32, shared, stream,
         true, p);
}

template <FewRows kind, class Out>
void start(const Params& p, DType x_type, cudaStream_t stream) {
  if (!p.norm) {
    start<kind, void, Out>(p, stream);
  } else if (x_type == DType::f32) {
    start<kind, float, Out>(p, stream);
  } else {
    start<kind, __nv_bfloat16, Out>(p, stream);
  }
}

}  // namespace

bool few_rows_product_fits(const View& x, const Matrix& weight, const View& out, bool normed) {
  return x.rows() <= max_rows && x.rows() > 0 && weight.parts == 1 &&
         (x.type == DType::bf16 || (normed && x.type == DType::f32)) &&
         (!normed || x.rows() * (x.shape[1] + 8) * 2 <= max_staged) &&
         weight.part[0].type == DType::bf16 &&
         (out.type == DType::bf16 || out.type == DType::f32) && x.shape[1] % chunk == 0 &&
         on_16_bytes(x) && on_16_bytes(weight.part[0]);
}

void few_rows_product(const FewRowsArgs& a, cudaStream_t stream) {
  const bool gated = a.kind == FewRows::gated;
  const Params p{.x = a.x.data,
                 .weight = static_cast<const __nv_bfloat16*>(a.weight.data),
                 .out = a.out.data,
                 .norm = static_cast<const float*>(a.norm.data),
                 .x_stride = a.x.row_stride,
                 .weight_stride = a.weight.row_stride,
                 .out_stride = a.out.row_stride,
                 .gate_rows = gated ? a.weight.rows() / 2 : 0,
                 .rows = static_cast<int>(a.x.rows()),
                 .depth = static_cast<int>(a.x.shape[1]),
                 .outputs = static_cast<int>(a.weight.rows()),
                 .tiles = static_cast<int>(gated ? a.weight.rows() / 2 / 8
                                                 : (a.weight.rows() + tile_rows - 1) / tile_rows),
                 .epsilon = a.epsilon};
  const bool wide = a.out.type == DType::f32;
  switch (a.kind) {
    case FewRows::store:
      wide ? start<FewRows::store, float>(p, a.x.type, stream)
           : start<FewRows::store, __nv_bfloat16>(p, a.x.type, stream);
      break;
    case FewRows::accumulate:
      wide ? start<FewRows::accumulate, float>(p, a.x.type, stream)
           : start<FewRows::accumulate, __nv_bfloat16>(p, a.x.type, stream);
      break;
    case FewRows::gated:
      wide ? start<FewRows::gated, float>(p, a.x.type, stream)
           : start<FewRows::gated, __nv_bfloat16>(p, a.x.type, stream);
      break;
  }
}

}  // namespace fastkv::cuda
