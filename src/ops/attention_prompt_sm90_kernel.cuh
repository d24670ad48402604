#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/attention_prompt_cuda.h"
#include "ops/attention_prompt_sm90_maps.h"
#include "ops/attention_prompt_sm90_units.cuh"
#include "ops/attention_prompt_softmax.cuh"

// Attention of a fresh prompt on Hopper, after FlashAttention-3 (Shah et al. 2024,
// https://arxiv.org/abs/2407.08608): one warpgroup feeds tiles through TMA, the others own 64
// query rows each, compute scores of the next tile while the values of this one are multiplied,
// and take turns so that one's exponentials run under the other's products.
//
// What differs: the blocks of a cluster work on different query heads of the same key/value head,
// in step, and each fetches its share of every key and value tile for all of them. At long prompts
// the chip is limited by power, and bytes from L2 are what can be saved.

namespace fastkv::cuda {

template <int kHeadDim_, int kKeys_, int kGroups_, int kStages_, int kCluster_, bool kWindow_,
          bool kDynamic_ = true, bool kTurns_ = true>
struct Sm90Config {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kKeys = kKeys_;         // in a tile
  static constexpr int kGroups = kGroups_;     // warpgroups that compute
  static constexpr int kStages = kStages_;     // tiles of keys, and of values, in flight
  static constexpr int kCluster = kCluster_;   // blocks that share keys and values
  static constexpr bool kWindow = kWindow_;    // there is a sliding window
  static constexpr bool kDynamic = kDynamic_;  // blocks fetch work when they need it
  static constexpr bool kTurns = kTurns_;      // warpgroups take turns at the matrix units

  static constexpr int kRows = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  // Registers per thread. They are moved between warpgroups: 3 x 168 or 4 x 128 at the start.
  static constexpr int kRegisters = kGroups == 2 ? 232 : 160;
  static constexpr int kLoaderRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kColumnBlocks = kHeadDim / 64;  // of 128 bytes
  static constexpr int kQueryBytes = kRows * kHeadDim * 2;
  static constexpr int kTileBytes = kKeys * kHeadDim * 2;
  static constexpr int kShareRows = kKeys / kCluster;  // of a tile, fetched by one block
  static constexpr int kBarrierBytes = 256;
  static constexpr int kSharedBytes = 1024 + kQueryBytes + 2 * kStages * kTileBytes + kBarrierBytes;
};

struct Sm90Params {
  CUtensorMap q, k, v;
  const std::int32_t* positions;
  __nv_bfloat16* out;
  float* log_sum_exp;
  unsigned int* counter;  // items handed out beyond each cluster's first
  std::int64_t out_stride;
  int n;
  int query_heads;
  int heads_per_kv_head;
  int window;
  int tiles;    // of query rows
  int units;    // sets of kCluster query heads
  int section;  // units that are worked on together
  float scale;  // 1 / sqrt(D)
};

/// What a cluster computes in one go: a tile of query rows of kCluster heads.
struct Sm90Item {
  int tile;
  int unit;
};

/// Items in order: sections of heads, whose keys and values stay in L2, and within them the long
/// tiles (the last rows) first, so that the short ones fill the gaps at the end.
__device__ __forceinline__ Sm90Item item_at(const Sm90Params& params, int index) {
  const int section_items = params.tiles * params.section;
  const int section = index / section_items;
  const int first = section * params.section;
  const int width = min(params.section, params.units - first);
  const int within = index - section * section_items;
  return {.tile = params.tiles - 1 - within / width, .unit = first + within % width};
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
  const std::uint32_t rank = C::kCluster > 1 ? cluster_rank() : 0;
  const int clusters = static_cast<int>(gridDim.x) / C::kCluster;
  const int first_item = static_cast<int>(blockIdx.x) / C::kCluster;
  const int items = params.tiles * params.units;

  if (threadIdx.x == 0) {
    barrier_init(q_full, 1);
    barrier_init(q_empty, 4 * C::kGroups);
    barrier_init(item_full, 1);
    barrier_init(item_empty, C::kCluster * (4 * C::kGroups + 1));
    for (int stage = 0; stage < C::kStages; ++stage) {
      barrier_init(k_full + 8 * stage, 1);
      barrier_init(v_full + 8 * stage, 1);
      barrier_init(k_empty + 8 * stage, 4 * C::kGroups * C::kCluster);
      barrier_init(v_empty + 8 * stage, 4 * C::kGroups * C::kCluster);
    }
    barrier_init_fence();
    tma_prefetch_map(&params.q);
    tma_prefetch_map(&params.k);
    tma_prefetch_map(&params.v);
  }
  if constexpr (C::kCluster > 1) {
    cluster_sync();
  } else {
    __syncthreads();
  }

  // Tiles of keys that a tile of queries sees: [first_tile, last_tile].
  const auto last_tile = [&](int tile) {
    return (min((tile + 1) * C::kRows, params.n) - 1) / C::kKeys;
  };
  const auto first_tile = [&](int tile) {
    if constexpr (!C::kWindow) return 0;
    return first_visible(params.positions, tile * C::kRows, params.window) / C::kKeys;
  };
  // The item after this one. `turn` counts items.
  const auto following = [&](int item, std::uint32_t& turn, bool speaks) {
    if constexpr (!C::kDynamic) return item + clusters;
    barrier_wait(item_full, turn);
    turn ^= 1;
    int next;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(next) : "r"(next_item) : "memory");
    if (speaks) barrier_arrive_at(item_empty, 0);
    return next;
  };

  if (group < 0) {
    lower_registers<C::kLoaderRegisters>();
    if (warp == 0 && (threadIdx.x & 31) == 0) {
      // ---- Loads ----
      constexpr auto everyone =
          static_cast<std::uint16_t>(C::kCluster > 1 ? (1 << C::kCluster) - 1 : 0);
      Ring<C::kStages> k_at;
      Ring<C::kStages> v_at;
      const auto load = [&](const CUtensorMap& map, std::uint32_t tiles, std::uint32_t full,
                            std::uint32_t empty, Ring<C::kStages>& at, int head, int row) {
        barrier_wait(empty + 8 * at.stage, at.parity ^ 1);
        const std::uint32_t barrier = full + 8 * at.stage;
        barrier_arrive_expect(barrier, C::kTileBytes);
        const int share = static_cast<int>(rank) * C::kShareRows;
        for (int block = 0; block < C::kColumnBlocks; ++block) {
          tma_load(&map, tiles + at.stage * C::kTileBytes + block * kTileColumnBytes + share * 128,
                   barrier, 64 * block, head, row + share, everyone);
        }
        at.next();
      };
      std::uint32_t q_parity = 1;
      std::uint32_t turn = 0;
      for (int index = first_item; index < items;) {
        if (C::kDynamic) barrier_arrive_expect(item_full, 4);
        const Sm90Item item = item_at(params, index);
        const int head = item.unit * C::kCluster + static_cast<int>(rank);
        const int kv_head = head / params.heads_per_kv_head;
        const int first = first_tile(item.tile);
        const int last = last_tile(item.tile);

        barrier_wait(q_empty, q_parity);
        q_parity ^= 1;
        barrier_arrive_expect(q_full, C::kQueryBytes);
        for (int block = 0; block < C::kColumnBlocks; ++block) {
          tma_load(&params.q, q_tile + block * kQueryColumnBytes, q_full, 64 * block, head,
                   item.tile * C::kRows, 0);
        }
        load(params.k, k_tiles, k_full, k_empty, k_at, kv_head, last * C::kKeys);
        for (int tile = last; tile > first; --tile) {
          load(params.k, k_tiles, k_full, k_empty, k_at, kv_head, (tile - 1) * C::kKeys);
          load(params.v, v_tiles, v_full, v_empty, v_at, kv_head, tile * C::kKeys);
        }
        load(params.v, v_tiles, v_full, v_empty, v_at, kv_head, first * C::kKeys);
        index = following(index, turn, true);
      }
    } else if (C::kDynamic && warp == 1 && rank == 0 && (threadIdx.x & 31) == 0) {
      // ---- Hands out items, one ahead of the work ----
      std::uint32_t turn = 1;
      for (int next = first_item; next < items;) {
        barrier_wait(item_empty, turn);
        turn ^= 1;
        next = clusters + static_cast<int>(atomicAdd(params.counter, 1));
        for (int block = 0; block < C::kCluster; ++block) {
          send_word(next_item, item_full, block, next);
        }
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

    // Each warp tells the blocks that write its tiles that it is done with one.
    const auto release = [&](std::uint32_t empty, const Ring<C::kStages>& at) {
      if constexpr (C::kCluster == 1) {
        if (lane == 0) barrier_arrive(empty + 8 * at.stage);
      } else {
        if (lane < C::kCluster) barrier_arrive_at(empty + 8 * at.stage, lane);
      }
    };
    // With turns, warpgroup g issues its products after g - 1 has issued its own.
    const auto take_turn = [&] {
      if constexpr (C::kTurns) named_sync(1 + group, 256);
    };
    const auto pass_turn = [&] {
      if constexpr (C::kTurns) named_arrive(1 + (group + 1) % C::kGroups, 256);
    };
    const auto issue_scores = [&] {
      const std::uint64_t a = tile_descriptor(q_tile + group * 64 * 128, 0);
      const std::uint64_t b = tile_descriptor(k_tiles + k_at.stage * C::kTileBytes, 0);
      pin(s);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kHeadDim / 16; ++step) {
        const int within = step % 4 * 32;
        mma_shared(s, a + ((step / 4 * kQueryColumnBytes + within) >> 4),
                   b + ((step / 4 * kTileColumnBytes + within) >> 4), step != 0);
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

    if (C::kTurns && group == C::kGroups - 1) pass_turn();  // the first one may start

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
        take_turn();
        issue_scores();
        barrier_wait(v_full + 8 * v_at.stage, v_at.parity);
        issue_output(add);
        pass_turn();
        add = true;
        wgmma_wait<1>();
        pin(s);
        release(k_empty, k_at);
        k_at.next();
        if constexpr (kMasked) mask(tile);
        softmax.template apply<kMasked>(s);
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

      const int head = item.unit * C::kCluster + static_cast<int>(rank);
      finish_rows(o, softmax, row, head, result);
      index = following(index, turn, lane == 0);
    }
  }
  // Shared memory must live until the cluster's last message to it.
  if constexpr (C::kCluster > 1) {
    __syncwarp();
    cluster_sync();
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
  params.k = tensor_map(args.k, args.n, args.kv_heads, args.head_dim, args.k_stride, C::kShareRows);
  params.v = tensor_map(args.v, args.n, args.kv_heads, args.head_dim, args.v_stride, C::kShareRows);
  params.positions = args.positions;
  params.out = args.out;
  params.log_sum_exp = args.log_sum_exp;
  params.out_stride = args.out_stride;
  params.n = static_cast<int>(args.n);
  params.query_heads = static_cast<int>(args.query_heads);
  params.heads_per_kv_head = static_cast<int>(args.query_heads / args.kv_heads);
  params.window = static_cast<int>(args.sliding_window);
  params.tiles = (params.n + C::kRows - 1) / C::kRows;
  params.units = params.query_heads / C::kCluster;
  params.section = std::min(params.units,
                            std::max(1, section_kv_heads * params.heads_per_kv_head / C::kCluster));
  params.scale = 1.0f / std::sqrt(static_cast<float>(args.head_dim));

  auto* const kernel = prompt_attention_sm90_kernel<C>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes),
        "shared memory of prompt attention");
  const int clusters = std::min(params.tiles * params.units, multiprocessors() / C::kCluster);
  if (C::kDynamic) {
    check(cudaMallocAsync(reinterpret_cast<void**>(&params.counter), sizeof(unsigned int), stream),
          "counter of prompt attention");
    check(cudaMemsetAsync(params.counter, 0, sizeof(unsigned int), stream),
          "counter of prompt attention");
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = C::kCluster;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters * C::kCluster));
  config.blockDim = dim3(C::kThreads);
  config.dynamicSmemBytes = C::kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, params), "prompt attention");
  if (C::kDynamic) check(cudaFreeAsync(params.counter, stream), "counter of prompt attention");
}

}  // namespace fastkv::cuda
