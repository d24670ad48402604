#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "ops/attention_prompt_softmax.cuh"
#include "ops/column_sums_cuda.h"
#include "ops/column_sums_sm90.h"
#include "ops/sm90_maps.h"
#include "ops/tensor_core_units.cuh"

// Scores are computed transposed, keys times queries: a block keeps 128 keys in registers as the
// left side, lets the queries pass, and each thread sums along its own rows. No partial sums are
// exchanged between blocks, so nothing needs atomics and the order of additions is fixed.

namespace fastkv::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kSlabs = 2;  // of 16 keys per warp
constexpr int kKeys = kWarps * kSlabs * 16;
constexpr int kQueries = 64;  // in a tile
constexpr int kThreads = 32 * kWarps;

/// One tile of queries in shared memory. A tile holds rows of one head, or all rows of several.
struct QueryTile {
  float offset[kQueries];  // log sum exp in powers of 2
  float weight[kQueries];
  int first_key[kQueries];  // that the query sees
};

template <int kHeadDim>
constexpr int shared_bytes() {
  return (kKeys + 2 * kQueries) * (kHeadDim + sm80::kPadding) * 2 +
         2 * static_cast<int>(sizeof(QueryTile));
}

/// How the queries that keys [first_key, first_key + kKeys) may meet are cut into tiles.
struct Walk {
  int first_row, end_row;  // queries
  int slot_rows;           // rows of one head in a tile, a multiple of 8
  int slots;               // heads in a tile
};

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 2)
    column_sums_kernel(const ColumnSumsArgs args, const int heads_per_block, const float scale2) {
#if __CUDA_ARCH__ >= 800
  using namespace sm80;
  constexpr int kPitch = kHeadDim + kPadding;
  constexpr int kSteps = kHeadDim / 16;
  extern __shared__ __align__(16) std::uint8_t shared[];
  auto* const k_tile = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* const q_tiles = k_tile + kKeys * kPitch;
  auto* const rows_of_tiles = reinterpret_cast<QueryTile*>(q_tiles + 2 * kQueries * kPitch);

  const int n = static_cast<int>(args.n);
  const int query_heads = static_cast<int>(args.query_heads);
  const int window = static_cast<int>(args.sliding_window);
  const int first_head = static_cast<int>(blockIdx.x) * heads_per_block;
  const int kv_head = first_head / static_cast<int>(args.query_heads / args.kv_heads);
  const int first_key = static_cast<int>(blockIdx.y) * kKeys;
  const int last_key = min(first_key + kKeys, n) - 1;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_key = static_cast<int>(threadIdx.x) / 32 * 16 * kSlabs;

  // ---- Which queries see these keys ----
  const int first_query = n - static_cast<int>(args.rows);
  Walk walk;
  walk.first_row = max(first_query, first_key);
  walk.end_row = n;
  if (window > 0) walk.end_row = last_viewer(args.positions, last_key, window, n) + 1;
  const int rows = max(walk.end_row - walk.first_row, 0);
  walk.slot_rows = min((rows + 7) / 8 * 8, kQueries);
  walk.slots = walk.slot_rows == 0 ? 1 : min(kQueries / walk.slot_rows, heads_per_block);
  const int tiles_per_head = (rows + kQueries - 1) / kQueries;  // 1 where tiles hold several heads
  const int tiles = tiles_per_head * ((heads_per_block + walk.slots - 1) / walk.slots);

  const auto load = [&](int tile) {
    __nv_bfloat16* const to = q_tiles + tile % 2 * kQueries * kPitch;
    QueryTile& about = rows_of_tiles[tile % 2];
    const int head = first_head + tile / tiles_per_head * walk.slots;
    const int row = walk.first_row + tile % tiles_per_head * kQueries;
    constexpr int kChunks = kHeadDim / 8;
    const int used = walk.slots * walk.slot_rows;
    for (int at = static_cast<int>(threadIdx.x); at < used * kChunks; at += kThreads) {
      const int r = at / kChunks;
      const int column = at % kChunks * 8;
      const int q_row = row + r % walk.slot_rows;
      const int q_head = head + r / walk.slot_rows;
      const bool outside = q_row >= walk.end_row || q_head >= first_head + heads_per_block;
      copy_async(to + r * kPitch + column,
                 args.q + (outside ? 0 : q_row * args.q_stride + q_head * kHeadDim) + column,
                 outside);
    }
    const int r = static_cast<int>(threadIdx.x);
    if (r < used) {
      const int q_row = row + r % walk.slot_rows;
      const int q_head = head + r / walk.slot_rows;
      const bool outside = q_row >= walk.end_row || q_head >= first_head + heads_per_block;
      about.first_key[r] = 0;
      about.offset[r] = INFINITY;
      about.weight[r] = 0.0f;
      if (!outside) {
        about.offset[r] =
            args.log_sum_exp[static_cast<std::int64_t>(q_row) * query_heads + q_head] *
                1.44269504f -
            raised;
        about.weight[r] =
            args.row_weights == nullptr ? 1.0f : args.row_weights[q_row - first_query];
        if (window > 0) about.first_key[r] = first_visible(args.positions, q_row, window);
      }
    }
    copy_commit();
  };

  if (tiles == 0) {  // nobody sees them
    for (int head = first_head; head < first_head + heads_per_block; ++head) {
      const int this_key = first_key + static_cast<int>(threadIdx.x);
      if (this_key < n) args.out[head * args.out_stride + this_key] = 0.0f;
    }
    return;
  }

  // ---- Keys to registers ----
  for (int at = static_cast<int>(threadIdx.x); at < kKeys * kHeadDim / 8; at += kThreads) {
    const int r = at / (kHeadDim / 8);
    const int column = at % (kHeadDim / 8) * 8;
    const bool outside = first_key + r >= n;
    copy_async(
        k_tile + r * kPitch + column,
        args.k + (outside ? 0 : (first_key + r) * args.k_stride + kv_head * kHeadDim) + column,
        outside);
  }
  copy_commit();
  load(0);  // on its way at the same time
  copy_wait<1>();
  __syncthreads();
  std::uint32_t keys[kSlabs][kSteps][4];
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      load_matrices(keys[slab][step],
                    left_row<kPitch>(k_tile + (warp_key + 16 * slab) * kPitch + 16 * step));
    }
  }

  // ---- Queries pass ----
  const int key = first_key + warp_key + lane / 4;  // and those 8, 16 and 24 further on
  float sums[kSlabs][2] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      load(tile + 1);
    } else {
      copy_commit();
    }
    copy_wait<1>();
    __syncthreads();
    const __nv_bfloat16* const q_tile = q_tiles + tile % 2 * kQueries * kPitch;
    const QueryTile& about = rows_of_tiles[tile % 2];
    const int head = first_head + tile / tiles_per_head * walk.slots;
    const int row = walk.first_row + tile % tiles_per_head * kQueries;
    const bool whole = window == 0 && row >= last_key;

    for (int slot = 0; slot < walk.slots && head + slot < first_head + heads_per_block; ++slot) {
      for (int within = 0; within < walk.slot_rows; within += 8) {
        const int at = slot * walk.slot_rows + within;
        float s[kSlabs][4] = {};
#pragma unroll
        for (int step = 0; step < kSteps; step += 2) {
          std::uint32_t b[4];  // 8 queries, depth 32
          load_matrices(b, q_tile + (at + lane % 8) * kPitch + 16 * step + lane / 8 * 8);
#pragma unroll
          for (int slab = 0; slab < kSlabs; ++slab) {
            mma(s[slab], keys[slab][step], b[0], b[1]);
            mma(s[slab], keys[slab][step + 1], b[2], b[3]);
          }
        }
        const int column = at + lane % 4 * 2;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float offset = about.offset[column + e];
          const float weight = about.weight[column + e];
          const int query = row + within + lane % 4 * 2 + e;
          const int seen = about.first_key[column + e];
#pragma unroll
          for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
            for (int at_key = 0; at_key < 2; ++at_key) {
              const int this_key = key + 16 * slab + 8 * at_key;
              float p = exp2_fast(fmaf(s[slab][2 * at_key + e], scale2, -offset));
              if (!whole && (this_key > query || this_key < seen)) p = 0.0f;
              sums[slab][at_key] = fmaf(weight, p, sums[slab][at_key]);
            }
          }
        }
      }
      // ---- A head is done ----
      if (tile % tiles_per_head == tiles_per_head - 1) {
#pragma unroll
        for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
          for (int at_key = 0; at_key < 2; ++at_key) {
            const float sum = quad_sum(sums[slab][at_key]);
            const int this_key = key + 16 * slab + 8 * at_key;
            if (lane % 4 == 0 && this_key < n) {
              args.out[(head + slot) * args.out_stride + this_key] = sum * lowering;
            }
            sums[slab][at_key] = 0.0f;
          }
        }
      }
    }
    __syncthreads();
  }
#endif
}

// ----------------------------------------------------------------------------------------------

template <int kHeadDim>
void launch(const ColumnSumsArgs& args, cudaStream_t stream) {
  auto* const kernel = column_sums_kernel<kHeadDim>;
  constexpr int kSharedBytes = shared_bytes<kHeadDim>();
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "shared memory of column sums");
  // Few rows: the keys are what takes time to read, so one block serves all heads that share them.
  const std::int64_t group = args.query_heads / args.kv_heads;
  const std::int64_t heads_per_block = args.rows <= kQueries ? group : 1;
  const dim3 grid(static_cast<unsigned>(args.query_heads / heads_per_block),
                  static_cast<unsigned>((args.n + kKeys - 1) / kKeys));
  const float scale2 = 1.44269504f / std::sqrt(static_cast<float>(args.head_dim));
  kernel<<<grid, kThreads, kSharedBytes, stream>>>(args, static_cast<int>(heads_per_block), scale2);
  check(cudaGetLastError(), "column sums");
}

}  // namespace

void column_sums_mma(const ColumnSumsArgs& args, cudaStream_t stream) {
  if (column_sums_sm90_pays(args)) return column_sums_sm90(args, stream);
  switch (args.head_dim) {
    case 64:
      return launch<64>(args, stream);
    case 96:
      return launch<96>(args, stream);
    case 128:
      return launch<128>(args, stream);
    default:
      refuse("column sums: head size " + std::to_string(args.head_dim) + " is not 64, 96 or 128");
  }
}

}  // namespace fastkv::cuda
