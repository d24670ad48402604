#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/attention_prompt_cuda.h"
#include "ops/attention_prompt_softmax.cuh"
#include "ops/sm90_maps.h"
#include "ops/sm90_units.cuh"

// Attention of a fresh prompt on Hopper, after FlashAttention-3 (Shah et al. 2024,
// https://arxiv.org/abs/2407.08608): one warpgroup feeds tiles through TMA, the others own 64
// query rows each and compute scores and softmax of the next tile while the values of this one are
// multiplied.
//
// Blocks stay and fetch work from a counter, long tiles first. Taking turns (the paper's ping-pong)
// and sharing tiles of keys and values within a cluster both made it slower on an H200.

namespace fastkv::cuda {

template <int kHeadDim_, int kKeys_, int kGroups_, int kStages_, bool kWindow_>
struct Sm90Config {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kKeys = kKeys_;       // in a tile
  static constexpr int kGroups = kGroups_;   // warpgroups that compute
  static constexpr int kStages = kStages_;   // tiles of keys, and of values, in flight
  static constexpr bool kWindow = kWindow_;  // there is a sliding window

  static constexpr int kRows = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  // Registers per thread. They are moved between warpgroups: 3 x 168 or 4 x 128 at the start.
  static constexpr int kRegisters = kGroups == 2 ? 232 : 160;
  static constexpr int kLoaderRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kColumnBlocks = kHeadDim / 64;  // of 128 bytes
  static constexpr int kQueryBytes = kRows * kHeadDim * 2;
  static constexpr int kTileBytes = kKeys * kHeadDim * 2;
  static constexpr int kBarrierBytes = 256;
  static constexpr int kSharedBytes = 1024 + kQueryBytes + 2 * kStages * kTileBytes + kBarrierBytes;
};

struct Sm90Params {
  CUtensorMap q, k, v;
  const std::int32_t* positions;
  __nv_bfloat16* out;
  float* log_sum_exp;
  unsigned int* counter;  // items handed out beyond each block's first
  std::int64_t out_stride;
  int n;
  int query_heads;
  int heads_per_kv_head;
  int window;
  int tiles;    // of query rows
  int section;  // heads that are worked on together
  float scale;  // 1 / sqrt(D)
};

/// What a block computes in one go.
struct Sm90Item {
  int tile;  // of query rows
  int head;
};

/// Items in order: sections of heads, whose keys and values stay in L2, and within them the long
/// tiles (the last rows) first, so that the short ones fill the gaps at the end.
__device__ __forceinline__ Sm90Item item_at(const Sm90Params& params, int index) {
  const int section_items = params.tiles * params.section;
  const int section = index / section_items;
  const int first = section * params.section;
  const int width = min(params.section, params.query_heads - first);
  const int within = index - section * section_items;
  return {.tile = params.tiles - 1 - within / width, .head = first + within % width};
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    prompt_attention_sm90_kernel(const __grid_constant__ Sm90Params params) {
  using namespace sm90;
  constexpr int kScores = C::kKeys / 2;  // of one thread
  constexpr int kOutputs = C::kHeadDim / 2;
  constexpr int kTileColumnBytes = C::kKeys * 128;   // 64 columns of a key or value tile
  constexpr int kQueryColumnBytes = C::kRows * 128;  // 64 columns of the query tile

  // ---- Shared memory ----
  extern __shared__ std::uint8_t raw_shared[];
  const std::uint32_t base = (shared_address(raw_shared) + 1023) & ~1023u;
  const std::uint32_t q_tile = base;
  const std::uint32_t k_tiles = q_tile + C::kQueryBytes;
  const std::uint32_t v_tiles = k_tiles + C::kStages * C::kTileBytes;
  const std::uint32_t barriers = v_tiles + C::kStages * C::kTileBytes;
  const std::uint32_t q_full = barriers;
  const std::uint32_t q_empty = barriers + 8;
  const std::uint32_t item_full = barriers + 16;
  const std::uint32_t item_empty = barriers + 24;
  const std::uint32_t k_full = barriers + 32;
  const std::uint32_t k_empty = k_full + 8 * C::kStages;
  const std::uint32_t v_full = k_empty + 8 * C::kStages;
  const std::uint32_t v_empty = v_full + 8 * C::kStages;
  const std::uint32_t next_item = v_empty + 8 * C::kStages;

  const int group = static_cast<int>(threadIdx.x) / 128 - 1;  // -1: the one that loads
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int blocks = static_cast<int>(gridDim.x);
  const int first_item = static_cast<int>(blockIdx.x);
  const int items = params.tiles * params.query_heads;

  if (threadIdx.x == 0) {
    barrier_init(q_full, 1);
    barrier_init(q_empty, 4 * C::kGroups);
    barrier_init(item_full, 1);
    barrier_init(item_empty, 4 * C::kGroups + 1);
    for (int stage = 0; stage < C::kStages; ++stage) {
      barrier_init(k_full + 8 * stage, 1);
      barrier_init(v_full + 8 * stage, 1);
      barrier_init(k_empty + 8 * stage, 4 * C::kGroups);
      barrier_init(v_empty + 8 * stage, 4 * C::kGroups);
    }
    barrier_init_fence();
    tma_prefetch_map(&params.q);
    tma_prefetch_map(&params.k);
    tma_prefetch_map(&params.v);
  }
  __syncthreads();

  // Tiles of keys that a tile of queries sees: [first_tile, last_tile].
  const auto last_tile = [&](int tile) {
    return (min((tile + 1) * C::kRows, params.n) - 1) / C::kKeys;
  };
  const auto first_tile = [&](int tile) {
    if constexpr (!C::kWindow) return 0;
    return first_visible(params.positions, tile * C::kRows, params.window) / C::kKeys;
  };
  // The item after this one, asked for by a whole warp or, `alone`, by one thread.
  const auto following = [&](std::uint32_t& turn, bool alone) {
    barrier_wait(item_full, turn);
    turn ^= 1;
    int next;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(next) : "r"(next_item) : "memory");
    if (!alone) __syncwarp();
    if (alone || threadIdx.x % 32 == 0) barrier_arrive(item_empty);
    return next;
  };

  if (group < 0) {
    lower_registers<C::kLoaderRegisters>();
    if (warp == 0 && (threadIdx.x & 31) == 0) {
      // ---- Loads ----
      Ring<C::kStages> k_at;
      Ring<C::kStages> v_at;
      const auto load = [&](const CUtensorMap& map, std::uint32_t tiles, std::uint32_t full,
                            std::uint32_t empty, Ring<C::kStages>& at, int head, int row) {
        barrier_wait(empty + 8 * at.stage, at.parity ^ 1);
        const std::uint32_t barrier = full + 8 * at.stage;
        barrier_arrive_expect(barrier, C::kTileBytes);
        for (int block = 0; block < C::kColumnBlocks; ++block) {
          tma_load(&map, tiles + at.stage * C::kTileBytes + block * kTileColumnBytes, barrier,
                   64 * block, head, row);
        }
        at.next();
      };
      std::uint32_t q_parity = 1;
      std::uint32_t turn = 0;
      for (int index = first_item; index < items;) {
        const Sm90Item item = item_at(params, index);
        const int kv_head = item.head / params.heads_per_kv_head;
        const int first = first_tile(item.tile);
        const int last = last_tile(item.tile);

        barrier_wait(q_empty, q_parity);
        q_parity ^= 1;
        barrier_arrive_expect(q_full, C::kQueryBytes);
        for (int block = 0; block < C::kColumnBlocks; ++block) {
          tma_load(&params.q, q_tile + block * kQueryColumnBytes, q_full, 64 * block, item.head,
                   item.tile * C::kRows);
        }
        load(params.k, k_tiles, k_full, k_empty, k_at, kv_head, last * C::kKeys);
        for (int tile = last; tile > first; --tile) {
          load(params.k, k_tiles, k_full, k_empty, k_at, kv_head, (tile - 1) * C::kKeys);
          load(params.v, v_tiles, v_full, v_empty, v_at, kv_head, tile * C::kKeys);
        }
        load(params.v, v_tiles, v_full, v_empty, v_at, kv_head, first * C::kKeys);
        index = following(turn, /*alone=*/true);
      }
    } else if (warp == 1 && (threadIdx.x & 31) == 0) {
      // ---- Hands out items, one ahead of the work ----
      std::uint32_t turn = 1;
      for (int next = first_item; next < items;) {
        barrier_wait(item_empty, turn);
        turn ^= 1;
        next = blocks + static_cast<int>(atomicAdd(params.counter, 1));
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(next_item), "r"(next) : "memory");
        barrier_arrive(item_full);
      }
    }
  } else {
    raise_registers<C::kRegisters>();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int tile_row = group * 64 + (warp & 3) * 16 + lane / 4;  // and the one 8 below
    Ring<C::kStages> k_at;
    Ring<C::kStages> v_at;
    std::uint32_t q_parity = 0;
    std::uint32_t turn = 0;
    float s[kScores];
    float o[kOutputs];
    std::uint32_t p[kScores / 2];
    OnlineSoftmax softmax;
    const PromptResult result{.out = params.out,
                              .out_stride = params.out_stride,
                              .log_sum_exp = params.log_sum_exp,
                              .n = params.n,
                              .query_heads = params.query_heads,
                              .scale = params.scale};

    // Each warp says that it is done with a tile.
    const auto release = [&](std::uint32_t empty, const Ring<C::kStages>& at) {
      if (lane == 0) barrier_arrive(empty + 8 * at.stage);
    };
    const auto issue_scores = [&] {
      const std::uint64_t a = tile_descriptor(q_tile + group * 64 * 128, 0);
      const std::uint64_t b = tile_descriptor(k_tiles + k_at.stage * C::kTileBytes, 0);
      pin(s);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kHeadDim / 16; ++step) {
        const int within = step % 4 * 32;
        const std::uint64_t b_step = b + ((step / 4 * kTileColumnBytes + within) >> 4);
        mma_shared(s, a + ((step / 4 * kQueryColumnBytes + within) >> 4), b_step, step != 0);
      }
      wgmma_commit();
    };
    const auto issue_output = [&](bool add) {
      const std::uint64_t b =
          tile_descriptor(v_tiles + v_at.stage * C::kTileBytes, kTileColumnBytes);
      pin(o);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kKeys / 16; ++step) {
        mma_transposed(o, p[4 * step], p[4 * step + 1], p[4 * step + 2], p[4 * step + 3],
                       b + (step * 16 * 128 >> 4), add || step != 0);
      }
      wgmma_commit();
    };
    const auto round_probabilities = [&] {
#pragma unroll
      for (int i = 0; i < kScores / 2; ++i) p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
    };

    for (int index = first_item; index < items;) {
      const Sm90Item item = item_at(params, index);
      const int first_row = item.tile * C::kRows;
      const int row = first_row + tile_row;
      const int first = first_tile(item.tile);
      const int last = last_tile(item.tile);
      int visible[2] = {0, 0};
      if constexpr (C::kWindow) {
        visible[0] = first_visible(params.positions, min(row, params.n - 1), params.window);
        visible[1] = first_visible(params.positions, min(row + 8, params.n - 1), params.window);
      }
      // Below this tile all keys lie before all rows; from `whole` on no row's window begins.
      const int diagonal = first_row / C::kKeys;
      int whole = 0;
      if constexpr (C::kWindow) {
        const int last_row = min(first_row + C::kRows, params.n) - 1;
        whole =
            (first_visible(params.positions, last_row, params.window) + C::kKeys - 1) / C::kKeys;
      }
      const auto mask = [&](int tile) {
        mask_scores<C::kWindow>(s, tile * C::kKeys, row, visible);
      };

      // ---- The first tile ----
      softmax.start(params.scale);
      barrier_wait(q_full, q_parity);
      q_parity ^= 1;
      barrier_wait(k_full + 8 * k_at.stage, k_at.parity);
      issue_scores();
      wgmma_wait<0>();
      pin(s);
      release(k_empty, k_at);
      k_at.next();
      mask(last);
      softmax.template apply<true>(s);
      round_probabilities();

      // ---- Values of one tile under the scores of the next ----
      bool add = false;
      const auto step = [&](int tile, auto masked) {
        constexpr bool kMasked = decltype(masked)::value;
        barrier_wait(k_full + 8 * k_at.stage, k_at.parity);
        issue_scores();
        barrier_wait(v_full + 8 * v_at.stage, v_at.parity);
        issue_output(add);
        add = true;
        wgmma_wait<1>();
        pin(s);
        release(k_empty, k_at);
        k_at.next();
        if constexpr (kMasked) mask(tile);
        softmax.template apply<kMasked>(s);
        wait_after(softmax.sum[0], softmax.sum[1], q_full);
        wgmma_wait<0>();
        pin(o);
        release(v_empty, v_at);
        v_at.next();
        if (softmax.rescale) {
#pragma unroll
          for (int i = 0; i < kOutputs; ++i) o[i] *= softmax.alpha[i / 2 % 2];
        }
        round_probabilities();
      };
      int tile = last - 1;
      for (; tile >= max(first, diagonal); --tile) step(tile, std::true_type{});
      for (; tile >= max(first, whole); --tile) step(tile, std::false_type{});
      if constexpr (C::kWindow) {
        for (; tile >= first; --tile) step(tile, std::true_type{});
      }
      if (lane == 0) barrier_arrive(q_empty);

      // ---- The last values, and results ----
      barrier_wait(v_full + 8 * v_at.stage, v_at.parity);
      issue_output(add);
      wgmma_wait<0>();
      pin(o);
      release(v_empty, v_at);
      v_at.next();

      finish_rows(o, softmax, row, item.head, result);
      index = following(turn, /*alone=*/false);
    }
  }
}

#else

template <typename C>
__global__ void prompt_attention_sm90_kernel(const __grid_constant__ Sm90Params) {}

#endif

// ----------------------------------------------------------------------------------------------

template <typename C>
void launch_prompt_attention_sm90(const PromptAttentionArgs& args, int section_kv_heads,
                                  cudaStream_t stream) {
  Sm90Params params{};
  params.q = tensor_map(args.q, args.n, args.query_heads, args.head_dim, args.q_stride, C::kRows);
  params.k = tensor_map(args.k, args.n, args.kv_heads, args.head_dim, args.k_stride, C::kKeys);
  params.v = tensor_map(args.v, args.n, args.kv_heads, args.head_dim, args.v_stride, C::kKeys);
  params.positions = args.positions;
  params.out = args.out;
  params.log_sum_exp = args.log_sum_exp;
  params.out_stride = args.out_stride;
  params.n = static_cast<int>(args.n);
  params.query_heads = static_cast<int>(args.query_heads);
  params.heads_per_kv_head = static_cast<int>(args.query_heads / args.kv_heads);
  params.window = static_cast<int>(args.sliding_window);
  params.tiles = (params.n + C::kRows - 1) / C::kRows;
  params.section = std::min(params.query_heads, section_kv_heads * params.heads_per_kv_head);
  params.scale = 1.0f / std::sqrt(static_cast<float>(args.head_dim));

  auto* const kernel = prompt_attention_sm90_kernel<C>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes),
        "shared memory of prompt attention");
  check(cudaMallocAsync(reinterpret_cast<void**>(&params.counter), sizeof(unsigned int), stream),
        "counter of prompt attention");
  check(cudaMemsetAsync(params.counter, 0, sizeof(unsigned int), stream),
        "counter of prompt attention");
  const int blocks = std::min(params.tiles * params.query_heads, multiprocessors());
  kernel<<<static_cast<unsigned>(blocks), C::kThreads, C::kSharedBytes, stream>>>(params);
  check(cudaGetLastError(), "prompt attention");
  check(cudaFreeAsync(params.counter, stream), "counter of prompt attention");
}

}  // namespace fastkv::cuda
