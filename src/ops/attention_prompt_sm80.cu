#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/attention_prompt_cuda.h"
#include "ops/attention_prompt_softmax.cuh"
#include "ops/sm90_maps.h"
#include "ops/tensor_core_units.cuh"

// Attention of a fresh prompt after FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691):
// each warp owns 32 query rows, so that a fragment of keys or values read from shared memory
// serves two products; keys of the next tile travel under the product with the values and values
// under the scores.

namespace fastkv::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kSlabs = 2;  // of 16 rows per warp
constexpr int kRows = kWarps * kSlabs * 16;
constexpr int kKeys = 64;
constexpr int kThreads = 32 * kWarps;

template <int kHeadDim>
constexpr int shared_bytes() {
  return (kRows + 2 * kKeys) * (kHeadDim + sm80::kPadding) * 2;
}

/// Starts copying rows [row, row + kCount) of one head to a tile; rows from n on become zeros.
template <int kHeadDim, int kCount>
__device__ __forceinline__ void load_tile(__nv_bfloat16* tile, const __nv_bfloat16* from,
                                          std::int64_t stride, int row, int n) {
  constexpr int kChunks = kHeadDim / 8;
#pragma unroll
  for (int i = 0; i < kCount * kChunks / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int r = at / kChunks;
    const int column = at % kChunks * 8;
    const bool outside = row + r >= n;
    sm80::copy_async(tile + r * (kHeadDim + sm80::kPadding) + column,
                     from + (outside ? 0 : row + r) * stride + column, outside);
  }
}

template <int kHeadDim, bool kWindow>
__global__ void __launch_bounds__(kThreads)
    prompt_attention_sm80_kernel(const PromptAttentionArgs args, const float scale) {
#if __CUDA_ARCH__ >= 800
  using namespace sm80;
  constexpr int kPitch = kHeadDim + kPadding;
  extern __shared__ __align__(16) std::uint8_t shared[];
  auto* const q_tile = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* const k_tile = q_tile + kRows * kPitch;
  __nv_bfloat16* const v_tile = k_tile + kKeys * kPitch;

  const int n = static_cast<int>(args.n);
  const int window = static_cast<int>(args.sliding_window);
  const int head = static_cast<int>(blockIdx.x);
  const int kv_head = head / static_cast<int>(args.query_heads / args.kv_heads);
  const int first_row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kRows;  // long ones first
  const __nv_bfloat16* const q = args.q + head * kHeadDim;
  const __nv_bfloat16* const k = args.k + kv_head * kHeadDim;
  const __nv_bfloat16* const v = args.v + kv_head * kHeadDim;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * kSlabs;

  const int last = (min(first_row + kRows, n) - 1) / kKeys;
  int first = 0;
  int visible[kSlabs][2] = {};
  if constexpr (kWindow) {
    first = first_visible(args.positions, first_row, window) / kKeys;
    for (int slab = 0; slab < kSlabs; ++slab) {
      for (int at = 0; at < 2; ++at) {
        const int row = first_row + warp_row + 16 * slab + lane / 4 + 8 * at;
        visible[slab][at] = first_visible(args.positions, min(row, n - 1), window);
      }
    }
  }

  load_tile<kHeadDim, kRows>(q_tile, q, args.q_stride, first_row, n);
  load_tile<kHeadDim, kKeys>(k_tile, k, args.k_stride, last * kKeys, n);
  copy_commit();

  OnlineSoftmax softmax[kSlabs];
  float o[kSlabs][kHeadDim / 2] = {};
  for (auto& one : softmax) one.start(scale);

  const auto step = [&](int tile, auto masked) {
    constexpr bool kMasked = decltype(masked)::value;
    load_tile<kHeadDim, kKeys>(v_tile, v, args.v_stride, tile * kKeys, n);
    copy_commit();
    copy_wait<1>();
    __syncthreads();

    // ---- Scores ----
    float s[kSlabs][kKeys / 2] = {};
#pragma unroll
    for (int depth = 0; depth < kHeadDim; depth += 16) {
      std::uint32_t a[kSlabs][4];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        load_matrices(a[slab], left_row<kPitch>(q_tile + (warp_row + 16 * slab) * kPitch + depth));
      }
#pragma unroll
      for (int key = 0; key < kKeys; key += 16) {
        std::uint32_t b[4];
        load_matrices(b, right_row<kPitch>(k_tile + key * kPitch + depth));
#pragma unroll
        for (int slab = 0; slab < kSlabs; ++slab) {
          mma(s[slab] + key / 2, a[slab], b[0], b[1]);
          mma(s[slab] + key / 2 + 4, a[slab], b[2], b[3]);
        }
      }
    }
    __syncthreads();
    if (tile > first) {
      load_tile<kHeadDim, kKeys>(k_tile, k, args.k_stride, (tile - 1) * kKeys, n);
    }
    copy_commit();

    // ---- Probabilities ----
    std::uint32_t p[kSlabs][kKeys / 4];
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      if constexpr (kMasked) {
        mask_scores<kWindow>(s[slab], tile * kKeys, first_row + warp_row + 16 * slab + lane / 4,
                             visible[slab]);
      }
      softmax[slab].template apply<kMasked>(s[slab]);
      if (softmax[slab].rescale) {
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; ++i) o[slab][i] *= softmax[slab].alpha[i / 2 % 2];
      }
#pragma unroll
      for (int i = 0; i < kKeys / 4; ++i)
        p[slab][i] = pack_bf16(s[slab][2 * i], s[slab][2 * i + 1]);
    }
    copy_wait<1>();
    __syncthreads();

    // ---- Values ----
#pragma unroll
    for (int key = 0; key < kKeys; key += 16) {
      std::uint32_t a[kSlabs][4];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[slab][i] = p[slab][key / 4 + i];
      }
#pragma unroll
      for (int column = 0; column < kHeadDim; column += 16) {
        std::uint32_t b[4];
        load_matrices_transposed(b, left_row<kPitch>(v_tile + key * kPitch + column));
#pragma unroll
        for (int slab = 0; slab < kSlabs; ++slab) {
          mma(o[slab] + column / 2, a[slab], b[0], b[1]);
          mma(o[slab] + column / 2 + 4, a[slab], b[2], b[3]);
        }
      }
    }
    __syncthreads();
  };

  // Tiles from here on hold keys after some row; below `whole` a window begins in some row.
  const int diagonal = first_row / kKeys;
  int whole = 0;
  if constexpr (kWindow) {
    const int last_row = min(first_row + kRows, n) - 1;
    whole = (first_visible(args.positions, last_row, window) + kKeys - 1) / kKeys;
  }
  int tile = last;
  for (; tile >= max(first, diagonal); --tile) step(tile, std::true_type{});
  for (; tile >= max(first, whole); --tile) step(tile, std::false_type{});
  if constexpr (kWindow) {
    for (; tile >= first; --tile) step(tile, std::true_type{});
  }

  const PromptResult result{.out = args.out,
                            .out_stride = args.out_stride,
                            .log_sum_exp = args.log_sum_exp,
                            .n = n,
                            .query_heads = static_cast<int>(args.query_heads),
                            .scale = scale};
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) {
    finish_rows(o[slab], softmax[slab], first_row + warp_row + 16 * slab + lane / 4, head, result);
  }
#endif
}

// ----------------------------------------------------------------------------------------------

template <int kHeadDim, bool kWindow>
void launch(const PromptAttentionArgs& args, cudaStream_t stream) {
  auto* const kernel = prompt_attention_sm80_kernel<kHeadDim, kWindow>;
  constexpr int kSharedBytes = shared_bytes<kHeadDim>();
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "shared memory of prompt attention");
  const dim3 grid(static_cast<unsigned>(args.query_heads),
                  static_cast<unsigned>((args.n + kRows - 1) / kRows));
  const float scale = 1.0f / std::sqrt(static_cast<float>(args.head_dim));
  kernel<<<grid, kThreads, kSharedBytes, stream>>>(args, scale);
  check(cudaGetLastError(), "prompt attention");
}

template <int kHeadDim>
void launch(const PromptAttentionArgs& args, cudaStream_t stream) {
  if (args.sliding_window > 0) {
    launch<kHeadDim, true>(args, stream);
  } else {
    launch<kHeadDim, false>(args, stream);
  }
}

}  // namespace

void prompt_attention_sm80(const PromptAttentionArgs& args, cudaStream_t stream) {
  switch (args.head_dim) {
    case 64:
      return launch<64>(args, stream);
    case 96:
      return launch<96>(args, stream);
    case 128:
      return launch<128>(args, stream);
    default:
      refuse("prompt attention: head size " + std::to_string(args.head_dim) +
             " is not 64, 96 or 128");
  }
}

}  // namespace fastkv::cuda
