// Choosing columns: a radix select finds the lowest key that is chosen, then columns are written in
// order. A block a row.

#include <cassert>

#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

constexpr int threads = 1024;
constexpr int warps = threads / 32;
constexpr int bins = 2048;

/// As on the CPU: both zeros are equal, NaN is below everything.
__device__ std::uint32_t order_key(float score) {
  if (score != score) return 0;
  const std::uint32_t bits = __float_as_uint(score == 0 ? 0.0F : score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// Finds, from the highest bin down, the one in which the `wanted`-th entry lies; all threads get
/// the bin and how many of its entries are wanted.
__device__ void find_bin(const int* histogram, int& wanted, int& bin, int* sums, int* result) {
  // Thread t sums the bins [4 t', 4 t' + 4) counted from the top; only the first half of the
  // threads has any.
  const int t = static_cast<int>(threadIdx.x);
  int own = 0;
  if (t < bins / 4) {
    for (int i = 0; i < 4; ++i) own += histogram[bins - 1 - (4 * t + i)];
  }
  int through = own;  // of the warp's lanes up to this one
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int other = __shfl_up_sync(0xffffffffU, through, lanes);
    if (t % 32 >= lanes) through += other;
  }
  if (t % 32 == 31) sums[t / 32] = through;
  __syncthreads();
  int before = 0;
  for (int w = 0; w < t / 32; ++w) before += sums[w];
  before += through - own;
  if (before < wanted && wanted <= before + own) {
    int left = wanted - before;
    for (int i = 0; i < 4; ++i) {
      const int b = bins - 1 - (4 * t + i);
      if (left <= histogram[b]) {
        result[0] = b;
        result[1] = left;
        break;
      }
      left -= histogram[b];
    }
  }
  __syncthreads();
  bin = result[0];
  wanted = result[1];
}

__global__ void __launch_bounds__(threads)
    top_k_kernel(const float* scores, std::int64_t stride, int columns, int chosen, int first,
                 int recent, std::int32_t* out, std::int64_t out_stride) {
  __shared__ int histogram[bins];
  __shared__ int sums[warps];
  __shared__ int result[2];
  __shared__ int above_of[warps], equal_of[warps];
  const int t = static_cast<int>(threadIdx.x);
  const int warp = t / 32;
  const int lane = t % 32;
  std::int32_t* to = out + blockIdx.x * out_stride;
  for (int j = t; j < first; j += threads) to[j] = j;
  for (int j = t; j < recent; j += threads) to[first + chosen + j] = columns - recent + j;
  if (chosen == 0) return;

  const float* row = scores + blockIdx.x * stride + first;
  const int n = columns - first - recent;
  // Eleven bits, eleven bits, ten bits.
  std::uint32_t threshold = 0;
  int wanted = chosen;
  constexpr int shifts[3] = {21, 10, 0};
  constexpr std::uint32_t known[3] = {0, 0xffe00000U, 0xfffffc00U};
  for (int pass = 0; pass < 3; ++pass) {
    for (int b = t; b < bins; b += threads) histogram[b] = 0;
    __syncthreads();
    for (int j = t; j < (n + 31) / 32 * 32; j += threads) {
      const std::uint32_t key = j < n ? order_key(row[j]) : 0;
      const bool counts = j < n && ((key ^ threshold) & known[pass]) == 0;
      const int bin =
          counts ? static_cast<int>((key >> shifts[pass]) & (bins - 1)) & (pass == 2 ? 1023 : 2047)
                 : -1;
      // Scores often share a bin: one addition for all lanes that hit the same.
      const unsigned same = __match_any_sync(0xffffffffU, bin);
      if (counts && __ffs(same) - 1 == lane) atomicAdd(&histogram[bin], __popc(same));
    }
    __syncthreads();
    int bin = 0;
    find_bin(histogram, wanted, bin, sums, result);
    threshold |= static_cast<std::uint32_t>(bin) << shifts[pass];
    __syncthreads();
  }

  // Each warp has a run of columns: first it counts, then it writes behind those before it.
  const int run = (n + warps - 1) / warps;
  const int begin = min(warp * run, n);
  const int end = min(begin + run, n);
  int above = 0, equal = 0;
  for (int j = begin + lane; j < end; j += 32) {
    const std::uint32_t key = order_key(row[j]);
    above += key > threshold;
    equal += key == threshold;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    above += __shfl_xor_sync(0xffffffffU, above, lanes);
    equal += __shfl_xor_sync(0xffffffffU, equal, lanes);
  }
  if (lane == 0) {
    above_of[warp] = above;
    equal_of[warp] = equal;
  }
  __syncthreads();
  int above_before = 0, equal_before = 0;
  for (int w = 0; w < warp; ++w) {
    above_before += above_of[w];
    equal_before += equal_of[w];
  }
  // Of those at the threshold the first `wanted` columns are chosen.
  int place = first + above_before + min(equal_before, wanted);
  const unsigned lower = (1U << lane) - 1;
  for (int j0 = begin; j0 < end; j0 += 32) {
    const int j = j0 + lane;
    const std::uint32_t key = j < end ? order_key(row[j]) : 0;
    const unsigned at = __ballot_sync(0xffffffffU, j < end && key == threshold);
    const bool takes =
        j < end &&
        (key > threshold || (key == threshold && equal_before + __popc(at & lower) < wanted));
    const unsigned taken = __ballot_sync(0xffffffffU, takes);
    if (takes) to[place + __popc(taken & lower)] = first + j;
    place += __popc(taken);
    equal_before += __popc(at);
  }
}

}  // namespace

void CudaDevice::top_k(const View& scores, std::int64_t count, std::int64_t first,
                       std::int64_t recent, const View& out) {
  const std::int64_t columns = scores.shape[1];
  assert(first >= 0 && recent >= 0 && first + recent <= count && count <= columns);
  if (scores.rows() == 0 || count == 0) return;
  cuda::launch("top_k_kernel", top_k_kernel, dim3(static_cast<unsigned>(scores.rows())), threads, 0,
               stream(), false, static_cast<const float*>(scores.data), scores.row_stride,
               static_cast<int>(columns), static_cast<int>(count - first - recent),
               static_cast<int>(first), static_cast<int>(recent),
               static_cast<std::int32_t*>(out.data), out.row_stride);
}

}  // namespace fastkv
