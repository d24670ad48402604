// The first half of an MLP for many rows, on Hopper. Through memory, gate and up would cost 6 % of
// the time of their product.
//
// A tile is 128 rows of x by gate and up of 128 outputs, so that one thread holds both numbers of
// an output. One warpgroup feeds tiles through TMA, two own 64 rows each. Two blocks form a
// cluster: they work on different rows with the same weights, of which each loads one half for
// both. Blocks stay and take tile after tile.

#include <cuda.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>

#include "ops/cuda_support.h"
#include "ops/gated_product_sm90.h"
#include "ops/sm90_maps.h"
#include "ops/sm90_units.cuh"

namespace fastkv::cuda {
namespace {

constexpr int kRows = 128;     // of x in a block's tile
constexpr int kOutputs = 128;  // of a tile
constexpr int kDepth = 64;     // of a stage: 128 bytes a row
constexpr int kStages = 4;
constexpr int kCluster = 2;  // blocks, one for gate and one for up
constexpr int kGroups = 2;   // warpgroups that compute
constexpr int kThreads = 128 * (kGroups + 1);

constexpr int kRowBytes = kRows * kDepth * 2;
constexpr int kHalfBytes = kOutputs * kDepth * 2;
constexpr int kStageBytes = kRowBytes + 2 * kHalfBytes;
constexpr int kColumnBytes = kRows * 128;  // 64 outputs of a tile
constexpr int kOutBytes = kOutputs / 64 * kColumnBytes;
constexpr int kSharedBytes = 1024 + kStages * kStageBytes + kOutBytes + 16 * kStages;

struct Params {
  CUtensorMap x;
  CUtensorMap half[2];  // gate and up
  CUtensorMap out;
  int depth_steps;
  int row_tiles;  // of a cluster: kCluster * kRows rows each
  int output_tiles;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// What a cluster computes in one go.
struct Tile {
  int rows;     // index of kCluster * kRows rows
  int outputs;  // index of kOutputs outputs
};

constexpr int kBand = 8;  // row tiles of a cluster that are worked on together

/// Tiles in order: bands of rows, which stay in L2 while the weights pass by.
__device__ __forceinline__ Tile tile_at(const Params& params, int index) {
  const int band_tiles = kBand * params.output_tiles;
  const int first = index / band_tiles * kBand;
  const int width = min(kBand, params.row_tiles - first);
  const int within = index % band_tiles;
  return {.rows = first + within % width, .outputs = within / width};
}

__device__ __forceinline__ float gated(float gate, float up) {
  return __fdividef(gate, 1.0F + __expf(-gate)) * up;
}

__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}

__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    gated_product_kernel(const __grid_constant__ Params params) {
  using namespace sm90;
  extern __shared__ std::uint8_t raw_shared[];
  const std::uint32_t stages = (shared_address(raw_shared) + 1023) & ~1023u;
  const std::uint32_t out_tile = stages + kStages * kStageBytes;
  const std::uint32_t full = out_tile + kOutBytes;
  const std::uint32_t empty = full + 8 * kStages;

  const int group = static_cast<int>(threadIdx.x) / 128 - 1;  // -1: the one that loads
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int rank = static_cast<int>(block_in_cluster());
  const int clusters = static_cast<int>(gridDim.x) / kCluster;
  const int first = static_cast<int>(blockIdx.x) / kCluster;
  const int tiles = params.row_tiles * params.output_tiles;

  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(full + 8 * stage, 1);
      // A stage may be written when all warps that compute, in both blocks, are done with it.
      barrier_init(empty + 8 * stage, kCluster * kGroups * 4);
    }
    barrier_init_fence();
    tma_prefetch_map(&params.x);
    tma_prefetch_map(&params.half[rank]);
    tma_prefetch_map(&params.out);
  }
  cluster_sync();

  Ring<kStages> at;
  if (group < 0) {
    lower_registers<40>();
    if (warp == 0 && (threadIdx.x & 31) == 0) {
      // ---- Loads: its own rows, and its half of the weights for both blocks ----
      for (int index = first; index < tiles; index += clusters) {
        const Tile tile = tile_at(params, index);
        const int row = (tile.rows * kCluster + rank) * kRows;
        for (int step = 0; step < params.depth_steps; ++step) {
          barrier_wait(empty + 8 * at.stage, at.parity ^ 1);
          const std::uint32_t barrier = full + 8 * at.stage;
          const std::uint32_t to = stages + at.stage * kStageBytes;
          barrier_arrive_expect(barrier, kStageBytes);
          tma_load(&params.x, to, barrier, step * kDepth, 0, row);
          tma_load_to_cluster(&params.half[rank], to + kRowBytes + rank * kHalfBytes, barrier,
                              step * kDepth, 0, tile.outputs * kOutputs, (1 << kCluster) - 1);
          at.next();
        }
      }
    }
  } else {
    raise_registers<232>();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    // Of two rows 8 apart: 16 groups of two neighbouring outputs each, gates and behind them ups.
    float d[128];
    // Each warp tells both blocks that it is done with a stage.
    const auto release = [&](int stage) {
      if (lane < kCluster) barrier_arrive_at(empty + 8 * stage, static_cast<std::uint32_t>(lane));
    };
    for (int index = first; index < tiles; index += clusters) {
      int before = 0;  // the stage whose products may still run
      for (int step = 0; step < params.depth_steps; ++step) {
        barrier_wait(full + 8 * at.stage, at.parity);
        const std::uint32_t from = stages + at.stage * kStageBytes;
        const std::uint64_t a = tile_descriptor(from + group * 64 * 128, 0);
        const std::uint64_t b = tile_descriptor(from + kRowBytes, 0);
        pin(d);
        wgmma_fence();
#pragma unroll
        for (int part = 0; part < kDepth / 16; ++part)
          mma_shared(d, a + (part * 32 >> 4), b + (part * 32 >> 4), step + part != 0);
        wgmma_commit();
        if (step > 0) {
          wgmma_wait<1>();
          release(before);
        }
        before = at.stage;
        at.next();
      }
      wgmma_wait<0>();
      pin(d);
      release(before);

      // ---- Out: to shared memory, swizzled as the copy engine reads it, and on from there ----
      const Tile tile = tile_at(params, index);
      const std::uint32_t mine = out_tile + group * 64 * 128;
      const bool copies = threadIdx.x % 128 == 0;
      if (copies) tma_store_wait_read();
      group_sync(group);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int eight = i / 2, below = i % 2;
        const int row = (warp & 3) * 16 + lane / 4 + 8 * below;
        const float* const gate = d + 4 * eight + 2 * below;
        const std::uint32_t chunk = (eight % 8 ^ lane / 4) * 16 + lane % 4 * 4;
        store_shared(mine + eight / 8 * kColumnBytes + row * 128 + chunk,
                     pack(gated(gate[0], gate[64]), gated(gate[1], gate[65])));
      }
      fence_for_copies();
      group_sync(group);
      if (copies) {
        const int first_row = (tile.rows * kCluster + rank) * kRows + group * 64;
        for (int part = 0; part < kOutputs / 64; ++part)
          tma_store(&params.out, mine + part * kColumnBytes, tile.outputs * kOutputs + 64 * part, 0,
                    first_row);
        tma_store_commit();
      }
    }
    if (threadIdx.x % 128 == 0) tma_store_wait();
  }
  // A block must not end while the other one still sends to it.
  __syncwarp();
  cluster_sync();
}

#else

__global__ void gated_product_kernel(const __grid_constant__ Params) {}

#endif

/// Rows [first, first + rows) of the weight, whichever part they lie in; empty if in none.
View rows_of_weight(const Matrix& weight, std::int64_t first, std::int64_t rows) {
  for (int i = 0; i < weight.parts; ++i) {
    const View& part = weight.part[static_cast<std::size_t>(i)];
    if (first >= 0 && first + rows <= part.rows()) return part.slice(first, rows);
    first -= part.rows();
  }
  return {};
}

/// Clusters that run at once: a pair of blocks needs two free multiprocessors of one group of them.
int clusters_at_once() {
  static const int found = [] {
    allow_shared(gated_product_kernel, kSharedBytes);  // else the answer is that none fits
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {kCluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(multiprocessors() / kCluster * kCluster));
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kSharedBytes;
    config.attrs = &cluster;
    config.numAttrs = 1;
    int count = 0;
    FASTKV_CUDA(cudaOccupancyMaxActiveClusters(&count, gated_product_kernel, &config));
    return count;
  }();
  return found;
}

CUtensorMap map_of(const View& matrix, int box_rows) {
  return tensor_map(static_cast<const __nv_bfloat16*>(matrix.data), matrix.rows(), 1,
                    matrix.shape[1], matrix.row_stride, box_rows);
}

std::int64_t tiles_of(std::int64_t rows, std::int64_t outputs) {
  return static_cast<std::int64_t>(blocks_for(rows, kCluster * kRows)) *
         blocks_for(outputs, kOutputs);
}

bool reachable(const View& matrix) {
  return matrix.type == DType::bf16 && on_16_bytes(matrix) && matrix.shape[1] % 8 == 0;
}

}  // namespace

bool gated_product_sm90_fits(const View& x, const Matrix& weight, const View& out) {
  const std::int64_t rows = x.rows(), outputs = out.shape[1];
  const View gate = rows_of_weight(weight, 0, outputs);
  const View up = rows_of_weight(weight, outputs, outputs);
  if (rows >= (1 << 30) || !gate || !up || !reachable(x) || !reachable(gate) || !reachable(up) ||
      !reachable(out)) {
    return false;
  }
  // All clusters take as many tiles; with more than a fifth of their work for nothing, a product of
  // smaller tiles and an activation behind it are faster.
  const std::int64_t clusters = clusters_at_once();
  if (clusters == 0) return false;
  const std::int64_t each = blocks_for(tiles_of(rows, outputs), clusters);
  const std::int64_t paid = each * clusters * kCluster * kRows * kOutputs;
  return rows * outputs * 5 >= paid * 4;
}

void gated_product_sm90(const View& x, const Matrix& weight, const View& out, cudaStream_t stream) {
  const std::int64_t outputs = out.shape[1];
  Params params{};
  params.x = map_of(x, kRows);
  params.half[0] = map_of(rows_of_weight(weight, 0, outputs), kOutputs);
  params.half[1] = map_of(rows_of_weight(weight, outputs, outputs), kOutputs);
  params.out = map_of(out, 64);
  params.depth_steps = static_cast<int>(blocks_for(x.shape[1], kDepth));
  params.row_tiles = static_cast<int>(blocks_for(x.rows(), kCluster * kRows));
  params.output_tiles = static_cast<int>(blocks_for(outputs, kOutputs));
  const std::int64_t clusters =
      std::min<std::int64_t>(tiles_of(x.rows(), outputs), clusters_at_once());
  launch("gated_product_kernel", gated_product_kernel,
         dim3(static_cast<unsigned>(clusters * kCluster)), kThreads, kSharedBytes, stream, false,
         params);
}

}  // namespace fastkv::cuda
