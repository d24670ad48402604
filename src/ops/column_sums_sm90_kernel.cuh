#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/attention_prompt_softmax.cuh"
#include "ops/column_sums_cuda.h"
#include "ops/sm90_maps.h"
#include "ops/sm90_units.cuh"

// Column sums on Hopper: a block keeps 64 keys per warpgroup in registers, queries pass through
// TMA, and scores are computed transposed, so that a thread sums along its own rows. Products and
// exponentials take about equally long, so each warpgroup has two sets of scores: one is being
// computed while the other is summed.

namespace fastkv::cuda {

template <int kHeadDim_, int kGroups_, int kQueries_, int kStages_, bool kWeighted_, bool kWindow_>
struct ColumnSumsConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kGroups = kGroups_;    // warpgroups that compute
  static constexpr int kQueries = kQueries_;  // in a tile
  static constexpr int kStages = kStages_;    // tiles of queries in flight
  static constexpr bool kWeighted = kWeighted_;
  static constexpr bool kWindow = kWindow_;

  static constexpr int kKeys = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  // Registers per thread. They are moved between warpgroups: 4 x 128 or 3 x 168 at first.
  static constexpr int kRegisters = kGroups == 3 ? 160 : 232;
  static constexpr int kLoaderRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kColumnBlocks = kHeadDim / 64;  // of 128 bytes
  static constexpr int kKeyBytes = kKeys * kHeadDim * 2;
  static constexpr int kTileBytes = kQueries * kHeadDim * 2;
  static constexpr int kRowBytes = kQueries * 4 * (1 + kWeighted + kWindow);  // about a tile's rows
  static constexpr int kSharedBytes =
      1024 + kKeyBytes + kStages * (kTileBytes + kRowBytes) + 8 * (1 + 2 * kStages);
};

struct ColumnSumsParams {
  CUtensorMap q, k;
  ColumnSumsArgs args;
  int key_tiles;
  float scale2;  // log2(e) / sqrt(D)
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    column_sums_sm90_kernel(const __grid_constant__ ColumnSumsParams params) {
  using namespace sm90;
  constexpr int kKeyColumnBytes = C::kKeys * 128;      // 64 columns of the keys
  constexpr int kTileColumnBytes = C::kQueries * 128;  // 64 columns of a query tile
  constexpr int kScores = C::kQueries / 2;             // of one thread
  const ColumnSumsArgs& args = params.args;

  // ---- Shared memory ----
  extern __shared__ std::uint8_t raw_shared[];
  const std::uint32_t raw_base = shared_address(raw_shared);
  const std::uint32_t base = (raw_base + 1023) & ~1023u;
  const std::uint32_t key_tile = base;
  const std::uint32_t q_tiles = key_tile + C::kKeyBytes;
  const std::uint32_t row_data = q_tiles + C::kStages * C::kTileBytes;
  const std::uint32_t k_full = row_data + C::kStages * C::kRowBytes;
  const std::uint32_t full = k_full + 8;
  const std::uint32_t empty = full + 8 * C::kStages;
  const auto row_floats = [&](int stage) {
    return reinterpret_cast<float*>(raw_shared + (row_data - raw_base) + stage * C::kRowBytes);
  };

  const int group = static_cast<int>(threadIdx.x) / 128 - 1;
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    barrier_init(k_full, 1);
    for (int stage = 0; stage < C::kStages; ++stage) {
      barrier_init(full + 8 * stage, 2);  // the copy's and the rows' warp
      barrier_init(empty + 8 * stage, 4 * C::kGroups);
    }
    barrier_init_fence();
    tma_prefetch_map(&params.q);
    tma_prefetch_map(&params.k);
  }
  __syncthreads();

  // ---- Which queries see these keys ----
  const int n = static_cast<int>(args.n);
  const int head = static_cast<int>(blockIdx.x) / params.key_tiles;
  const int first_key = static_cast<int>(blockIdx.x) % params.key_tiles * C::kKeys;
  const int first_query = n - static_cast<int>(args.rows);
  const int first_row = max(first_query, first_key);
  int end_row = n;
  if constexpr (C::kWindow) {
    const int last_key = min(first_key + C::kKeys, n) - 1;
    end_row = last_viewer(args.positions, last_key, static_cast<int>(args.sliding_window), n) + 1;
  }
  // Tiles go in pairs; rows from n on count nothing, other rows too many are masked.
  const int tiles = max(end_row - first_row + 2 * C::kQueries - 1, 0) / (2 * C::kQueries) * 2;

  if (group < 0) {
    lower_registers<C::kLoaderRegisters>();
    Ring<C::kStages> at;
    if (warp == 0 && lane == 0) {
      // ---- Keys and queries ----
      const int kv_head = head / static_cast<int>(args.query_heads / args.kv_heads);
      barrier_arrive_expect(k_full, C::kKeyBytes);
      for (int block = 0; block < C::kColumnBlocks; ++block) {
        tma_load(&params.k, key_tile + block * kKeyColumnBytes, k_full, 64 * block, kv_head,
                 first_key);
      }
      for (int tile = 0; tile < tiles; ++tile) {
        barrier_wait(empty + 8 * at.stage, at.parity ^ 1);
        const std::uint32_t barrier = full + 8 * at.stage;
        barrier_arrive_expect(barrier, C::kTileBytes);
        for (int block = 0; block < C::kColumnBlocks; ++block) {
          tma_load(&params.q, q_tiles + at.stage * C::kTileBytes + block * kTileColumnBytes,
                   barrier, 64 * block, head, first_row + tile * C::kQueries);
        }
        at.next();
      }
    } else if (warp == 1) {
      // ---- What is known about the rows ----
      for (int tile = 0; tile < tiles; ++tile) {
        float offsets[C::kQueries / 32];
        float weights[C::kQueries / 32];
        int visible[C::kQueries / 32];
#pragma unroll
        for (int i = 0; i < C::kQueries / 32; ++i) {
          const int row = first_row + tile * C::kQueries + 32 * i + lane;
          offsets[i] = INFINITY;
          weights[i] = 0.0f;
          visible[i] = 0;
          if (row < n) {
            offsets[i] = args.log_sum_exp[row * args.query_heads + head] * 1.44269504f - raised;
            if constexpr (C::kWeighted) weights[i] = args.row_weights[row - first_query];
            if constexpr (C::kWindow) {
              visible[i] =
                  first_visible(args.positions, row, static_cast<int>(args.sliding_window));
            }
          }
        }
        barrier_wait(empty + 8 * at.stage, at.parity ^ 1);
        float* const to = row_floats(at.stage);
#pragma unroll
        for (int i = 0; i < C::kQueries / 32; ++i) {
          // The four queries that a thread has in 16 columns lie together.
          const int place =
              32 * i + lane / 16 * 16 + lane % 8 / 2 * 4 + lane % 16 / 8 * 2 + lane % 2;
          to[place] = offsets[i];
          if constexpr (C::kWeighted) to[C::kQueries + place] = weights[i];
          if constexpr (C::kWindow) {
            to[(1 + C::kWeighted) * C::kQueries + place] = __int_as_float(visible[i]);
          }
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(full + 8 * at.stage);
        at.next();
      }
    }
  } else {
    raise_registers<C::kRegisters>();
    Ring<C::kStages> issued;
    Ring<C::kStages> at;
    float even[kScores];
    float odd[kScores];
    float sums[2] = {};
    const int group_key = first_key + 64 * group;
    const int key = group_key + (warp & 3) * 16 + lane / 4;  // and the one 8 further on
    // Keys stay in registers: read from shared memory for every product, they and the queries would
    // take all of its bandwidth.
    std::uint32_t keys[C::kHeadDim / 4];
    barrier_wait(k_full, 0);
    load_left(keys, key_tile + (group * 64 + (warp & 3) * 16) * 128, kKeyColumnBytes);

    const auto issue = [&](auto& s) {
      const std::uint64_t b = tile_descriptor(q_tiles + issued.stage * C::kTileBytes, 0);
      barrier_wait(full + 8 * issued.stage, issued.parity);
      issued.next();
      pin(s);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kHeadDim / 16; ++step) {
        const int within = step % 4 * 32;
        mma_registers(s, keys[4 * step], keys[4 * step + 1], keys[4 * step + 2], keys[4 * step + 3],
                      b + ((step / 4 * kTileColumnBytes + within) >> 4), step != 0);
      }
      wgmma_commit();
    };
    const auto release = [&] {
      __syncwarp();
      if (lane == 0) barrier_arrive(empty + 8 * at.stage);
      at.next();
    };
    int row = first_row;
    const auto add = [&](const auto& s, auto masked) {
      constexpr bool kMasked = decltype(masked)::value;
      const float* const rows = row_floats(at.stage);
      float total[2] = {};
#pragma unroll
      for (int block = 0; block < C::kQueries / 16; ++block) {
        const int place = 16 * block + lane % 4 * 4;
        const float4 offset4 = *reinterpret_cast<const float4*>(rows + place);
        const float offsets[4] = {offset4.x, offset4.y, offset4.z, offset4.w};
        float weights[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        int visible[4] = {};
        if constexpr (C::kWeighted) {
          const float4 w = *reinterpret_cast<const float4*>(rows + C::kQueries + place);
          weights[0] = w.x, weights[1] = w.y, weights[2] = w.z, weights[3] = w.w;
        }
        if constexpr (C::kWindow) {
          const int4 v =
              *reinterpret_cast<const int4*>(rows + (1 + C::kWeighted) * C::kQueries + place);
          visible[0] = v.x, visible[1] = v.y, visible[2] = v.z, visible[3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int at_key = 0; at_key < 2; ++at_key) {
            const float x =
                fmaf(s[8 * block + i / 2 * 4 + 2 * at_key + i % 2], params.scale2, -offsets[i]);
            float p = exp2_fast(x);
            if constexpr (kMasked) {
              const int query = row + 16 * block + i / 2 * 8 + lane % 4 * 2 + i % 2;
              const int this_key = key + 8 * at_key;
              if (this_key > query || (C::kWindow && this_key < visible[i])) p = 0.0f;
            }
            total[at_key] = C::kWeighted ? fmaf(weights[i], p, total[at_key]) : total[at_key] + p;
          }
        }
      }
      sums[0] += total[0];
      sums[1] += total[1];
      row += C::kQueries;
    };
    // Sums one tile while the scores of the next are computed. Nothing is in flight at the end, for
    // the compiler would wait too early if products ran across the end of a loop's body.
    const auto step = [&](auto& s, auto& next, auto masked) {
      issue(next);
      wgmma_wait<1>();  // waits for nothing, but keeps the sums from being mixed into the products
      pin(s);
      add(s, masked);
      wait_after(sums[0], sums[1], k_full);
      release();
      wgmma_wait<0>();
      pin(next);
    };
    constexpr auto yes = std::true_type{};
    constexpr std::bool_constant<C::kWindow> always_masked;
    constexpr int kDiagonalPairs = (C::kKeys + 2 * C::kQueries - 1) / (2 * C::kQueries);

    const int pairs = tiles / 2;
    if (pairs > 0) {
      issue(even);
      wgmma_wait<0>();
      pin(even);
      int pair = 0;
      for (; pair < min(pairs - 1, kDiagonalPairs); ++pair) {
        step(even, odd, yes);
        step(odd, even, yes);
      }
      for (; pair < pairs - 1; ++pair) {
        step(even, odd, always_masked);
        step(odd, even, always_masked);
      }
      step(even, odd, yes);
      add(odd, yes);
      release();
    }
#pragma unroll
    for (int at_key = 0; at_key < 2; ++at_key) {
      const float sum = quad_sum(sums[at_key]);
      const int this_key = key + 8 * at_key;
      if (lane % 4 == 0 && this_key < n)
        args.out[head * args.out_stride + this_key] = sum * lowering;
    }
  }
}

#else

template <typename C>
__global__ void column_sums_sm90_kernel(const __grid_constant__ ColumnSumsParams) {}

#endif

// ----------------------------------------------------------------------------------------------

template <typename C>
void launch_column_sums_sm90(const ColumnSumsArgs& args, cudaStream_t stream) {
  ColumnSumsParams params{};
  params.q =
      tensor_map(args.q, args.n, args.query_heads, args.head_dim, args.q_stride, C::kQueries);
  params.k = tensor_map(args.k, args.n, args.kv_heads, args.head_dim, args.k_stride, C::kKeys);
  params.args = args;
  params.key_tiles = static_cast<int>((args.n + C::kKeys - 1) / C::kKeys);
  params.scale2 = 1.44269504f / std::sqrt(static_cast<float>(args.head_dim));
  auto* const kernel = column_sums_sm90_kernel<C>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes),
        "shared memory of column sums");
  const auto blocks = static_cast<unsigned>(params.key_tiles * args.query_heads);
  kernel<<<blocks, C::kThreads, C::kSharedBytes, stream>>>(params);
  check(cudaGetLastError(), "column sums");
}

}  // namespace fastkv::cuda
