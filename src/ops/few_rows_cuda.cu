#include <algorithm>
#include <cassert>
#include <type_traits>

#include "ops/cuda_support.h"
#include "ops/few_rows_cuda.h"
#include "ops/tensor_core_units.cuh"

// A block computes tiles of 16 or 32 outputs (rows of W) for all rows of x with tensor cores: W is
// the A operand of mma.m16n8k16, x the B operand. The block's eight warps share the depth K. A
// thread takes 16 consecutive bytes of a row of W; as the order of a dot product's terms is free,
// these eight numbers simply are declared to be those k that the instruction wants from this
// thread, and x is read in the same order.
//
// Reading W is all that takes time, so it must never pause. Every thread has a ring of shared
// memory that asynchronous copies fill ahead, across tiles. One block a multiprocessor leaves room
// for one of the next kernel, which fills its own ring while this one ends: weights do not depend
// on what came before.

namespace fastkv::cuda {
namespace {

constexpr int warps = 8;
constexpr int max_rows = 8;
constexpr int stages = 5;
constexpr int pieces = 4;  // of 16 bytes that a thread takes at a time
constexpr int ring_bytes = stages * warps * pieces * 32 * 16;
// Beside the ring and x: the warps' sums, and a little more.
constexpr int static_bytes = 2 * warps * 32 * (max_rows + 1) * 4 + 256;

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

/// A row of x times the norm's weights to shared memory, by `threads` threads of which this is
/// number `thread`. Returns this thread's part of the sum of squares: the scale follows when the
/// product is done, so x is read once.
template <class X>
__device__ float stage_row(const Params& p, const X* x, __nv_bfloat16* to, int thread,
                           int threads) {
  float squares = 0;
  float value[8], norm[8];
#pragma unroll 2
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

/// X: float or bfloat16 where x is normalised first, else void. halves: of 16 outputs in a tile.
template <FewRows kind, class X, class Out, int halves>
__global__ void __launch_bounds__(warps * 32, 1) few_rows_kernel(const Params p) {
  constexpr bool normed = !std::is_void_v<X>;
  constexpr int tile_rows = 16 * halves;
  constexpr int columns = 64 / halves;  // of W that a warp takes at a time
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float sums[2][warps][tile_rows][max_rows + 1];
  __shared__ float scratch[32];
  __shared__ float scales[max_rows];
  let_next_start();

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;   // row of W in eight, and column of the result
  const int column = lane % 4;  // which eight of 32 columns
  const int first_k = warp * columns;

  // Piece j of a stage: row group + 8 * (j % (2 * halves)) of the tile, 32 columns further for each
  // 2 * halves. A thread reads only what it has copied itself.
  const auto ring =
      static_cast<unsigned>(__cvta_generic_to_shared(shared)) + (warp * pieces * 32 + lane) * 16;
  constexpr unsigned stage_bytes = warps * pieces * 32 * 16;
  int next_tile = blockIdx.x;
  int next_k = first_k;
  unsigned next_slot = 0;
  const auto fetch = [&] {
    if (next_tile < p.tiles && first_k < p.depth) {
#pragma unroll
      for (int j = 0; j < pieces; ++j) {
        const int row = group + 8 * (j % (2 * halves));
        std::int64_t at;
        if (kind == FewRows::gated) {  // the upper eight of 16 are rows of Wu
          at = static_cast<std::int64_t>(next_tile) * (tile_rows / 2) + row / 16 * 8 + row % 8 +
               (row % 16 < 8 ? 0 : p.gate_rows);
        } else {  // behind the end the last row is read again
          at = min(static_cast<std::int64_t>(next_tile) * tile_rows + row,
                   static_cast<std::int64_t>(p.outputs - 1));
        }
        sm80::copy_async<true>(
            ring + next_slot * stage_bytes + j * 512,
            p.weight + at * p.weight_stride + next_k + j / (2 * halves) * 32 + column * 8, false);
      }
      next_k += warps * columns;
      if (next_k >= p.depth) {
        next_k = first_k;
        next_tile += static_cast<int>(gridDim.x);
      }
    }
    next_slot = next_slot + 1 == stages ? 0 : next_slot + 1;
    sm80::copy_commit();  // also where nothing is left: the groups are counted
  };
  for (int i = 0; i < stages - 1; ++i) fetch();
  wait_for_inputs();

  const __nv_bfloat16* x;
  if constexpr (normed) {
    auto* staged = reinterpret_cast<__nv_bfloat16*>(shared + ring_bytes);
    stage<X>(p, staged, scales, scratch);
    x = staged + group * (p.depth + 8) + column * 8;
  } else {
    x = static_cast<const __nv_bfloat16*>(p.x) + group * p.x_stride + column * 8;
  }
  const bool has_row = group < p.rows;
  const int line = threadIdx.x % 16;
  const int row = static_cast<int>(threadIdx.x) / 16;
  auto* out_row = static_cast<Out*>(p.out) + row * p.out_stride;
  int buffer = 0;
  unsigned slot = 0;
  for (int tile = blockIdx.x; tile < p.tiles; tile += static_cast<int>(gridDim.x)) {
    const std::int64_t first_output =
        static_cast<std::int64_t>(tile) * (kind == FewRows::gated ? tile_rows / 2 : tile_rows);
    float before[halves] = {};  // read early: it takes a while
    if (kind == FewRows::accumulate && row < p.rows) {
#pragma unroll
      for (int h = 0; h < halves; ++h) {
        const std::int64_t at = first_output + h * 16 + line;
        if (at < p.outputs) before[h] = to_float(out_row[at]);
      }
    }
    float c[halves][4] = {};
    for (int k = first_k; k < p.depth; k += warps * columns) {
      uint4 now[pieces], now_x[columns / 32];
#pragma unroll
      for (int i = 0; i < columns / 32; ++i)
        now_x[i] = has_row ? *reinterpret_cast<const uint4*>(x + k + 32 * i) : uint4{0, 0, 0, 0};
      sm80::copy_wait<stages - 2>();
#pragma unroll
      for (int j = 0; j < pieces; ++j) {
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(now[j].x), "=r"(now[j].y), "=r"(now[j].z), "=r"(now[j].w)
                     : "r"(ring + slot * stage_bytes + j * 512)
                     : "memory");
      }
      fetch();  // into the slot before this one, whose numbers have been multiplied
      slot = slot + 1 == stages ? 0 : slot + 1;
#pragma unroll
      for (int i = 0; i < columns / 32; ++i) {
#pragma unroll
        for (int h = 0; h < halves; ++h) {
          const uint4& low = now[i * 2 * halves + 2 * h];
          const uint4& high = now[i * 2 * halves + 2 * h + 1];
          sm80::mma(c[h], {low.x, high.x, low.y, high.y}, now_x[i].x, now_x[i].y);
          sm80::mma(c[h], {low.z, high.z, low.w, high.w}, now_x[i].z, now_x[i].w);
        }
      }
    }
#pragma unroll
    for (int h = 0; h < halves; ++h) {
      auto* to = sums[buffer][warp] + 16 * h;
      to[group][2 * column] = c[h][0];
      to[group][2 * column + 1] = c[h][1];
      to[group + 8][2 * column] = c[h][2];
      to[group + 8][2 * column + 1] = c[h][3];
    }
    __syncthreads();

    // The warps' shares are added in one order, always. The next tile has the other buffer, so one
    // barrier a tile is enough.
    if (row < p.rows) {
      const float scale = normed ? scales[row] : 1.0F;
      const auto total = [&](int l) {
        float sum = 0;
        for (int w = 0; w < warps; ++w) sum += sums[buffer][w][l][row];
        return normed ? sum * scale : sum;
      };
#pragma unroll
      for (int h = 0; h < halves; ++h) {
        if (kind == FewRows::gated) {
          if (line < 8) {
            const float gate = total(16 * h + line);
            const float up = total(16 * h + line + 8);
            out_row[first_output + 8 * h + line] =
                from_float<Out>(gate / (1.0F + __expf(-gate)) * up);
          }
        } else {
          const std::int64_t at = first_output + 16 * h + line;
          if (at < p.outputs) out_row[at] = from_float<Out>(before[h] + total(16 * h + line));
        }
      }
    }
    buffer ^= 1;
  }
}

std::size_t shared_for(std::int64_t rows, std::int64_t depth, bool normed) {
  return ring_bytes + (normed ? static_cast<std::size_t>(rows * (depth + 8)) * 2 : 0);
}

template <FewRows kind, class X, class Out, int halves>
void start(Params p, cudaStream_t stream) {
  const auto outputs = kind == FewRows::gated ? p.outputs / 2 : p.outputs;
  constexpr int per_tile = kind == FewRows::gated ? 8 * halves : 16 * halves;
  p.tiles = (outputs + per_tile - 1) / per_tile;
  const std::size_t shared = shared_for(p.rows, p.depth, !std::is_void_v<X>);
  allow_shared(few_rows_kernel<kind, X, Out, halves>, shared);
  const auto blocks = static_cast<unsigned>(std::min(p.tiles, multiprocessors()));
  launch("few_rows_kernel", few_rows_kernel<kind, X, Out, halves>, dim3(blocks), warps * 32, shared,
         stream, true, p);
}

template <FewRows kind, class Out>
void start(const Params& p, DType x_type, cudaStream_t stream) {
  if (!p.norm) {
    // Every tile reads all of x: with many rows that counts, and wider tiles read it less often.
    if (kind != FewRows::gated && p.rows > 2) {
      start<kind, void, Out, kind == FewRows::gated ? 1 : 2>(p, stream);
    } else {
      start<kind, void, Out, 1>(p, stream);
    }
  } else if (x_type == DType::f32) {
    start<kind, float, Out, 1>(p, stream);
  } else {
    start<kind, __nv_bfloat16, Out, 1>(p, stream);
  }
}

}  // namespace

bool few_rows_product_fits(const View& x, const Matrix& weight, const View& out, bool normed) {
  return x.rows() <= max_rows && x.rows() > 0 && weight.parts == 1 &&
         (x.type == DType::bf16 || (normed && x.type == DType::f32)) &&
         weight.part[0].type == DType::bf16 &&
         (out.type == DType::bf16 || out.type == DType::f32) && x.shape[1] % 64 == 0 &&
         shared_for(x.rows(), x.shape[1], normed) + static_bytes <= shared_limit() &&
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
                 .tiles = 0,
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
