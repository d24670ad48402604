#include <cassert>

#include "core/tensor.h"
#include "ops/cuda_support.h"
#include "ops/linear_cuda.h"

// Products of any types and alignment. Sixteen by sixteen outputs a block; for verification and
// for odd shapes, not for speed.

namespace fastkv::cuda {
namespace {

constexpr int tile = 16;

template <class X, class W, class Out>
__global__ void any_product_kernel(const X* x, std::int64_t x_stride, const W* weight,
                                   std::int64_t weight_stride, Out* out, std::int64_t out_stride,
                                   std::int64_t rows, std::int64_t depth, std::int64_t outputs,
                                   bool accumulate) {
  __shared__ float xs[tile][tile + 1];
  __shared__ float ws[tile][tile + 1];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * tile + threadIdx.y;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * tile;
  const std::int64_t output = first + threadIdx.x;
  // In pieces, so that long sums lose no more than short ones.
  float total = 0, sum = 0;
  for (std::int64_t k = 0; k < depth; k += tile) {
    const std::int64_t at = k + threadIdx.x;
    xs[threadIdx.y][threadIdx.x] =
        row < rows && at < depth ? to_float(x[row * x_stride + at]) : 0.0F;
    ws[threadIdx.y][threadIdx.x] =
        first + threadIdx.y < outputs && at < depth
            ? to_float(weight[(first + threadIdx.y) * weight_stride + at])
            : 0.0F;
    __syncthreads();
    for (int i = 0; i < tile; ++i) sum = fmaf(xs[threadIdx.y][i], ws[threadIdx.x][i], sum);
    if (k / tile % 8 == 7) {
      total += sum;
      sum = 0;
    }
    __syncthreads();
  }
  total += sum;
  if (row >= rows || output >= outputs) return;
  Out& to = out[row * out_stride + output];
  to = from_float<Out>(accumulate ? to_float(to) + total : total);
}

template <class X, class W, class Out>
void start(const View& x, const View& weight, const View& out, bool accumulate,
           cudaStream_t stream) {
  for (std::int64_t first = 0; first < x.rows(); first += 65535 * tile) {
    const std::int64_t rows = std::min<std::int64_t>(x.rows() - first, 65535 * tile);
    const dim3 grid(blocks_for(weight.rows(), tile), blocks_for(rows, tile));
    any_product_kernel<X, W, Out><<<grid, dim3(tile, tile), 0, stream>>>(
        static_cast<const X*>(x.data) + first * x.row_stride, x.row_stride,
        static_cast<const W*>(weight.data), weight.row_stride,
        static_cast<Out*>(out.data) + first * out.row_stride, out.row_stride, rows, x.shape[1],
        weight.rows(), accumulate);
    check(cudaGetLastError(), "any_product_kernel");
  }
}

template <class X, class W>
void start(const View& x, const View& weight, const View& out, bool accumulate,
           cudaStream_t stream) {
  if (out.type == DType::f32) {
    start<X, W, float>(x, weight, out, accumulate, stream);
  } else {
    start<X, W, __nv_bfloat16>(x, weight, out, accumulate, stream);
  }
}

template <class X>
void start(const View& x, const View& weight, const View& out, bool accumulate,
           cudaStream_t stream) {
  switch (weight.type) {
    case DType::f32:
      return start<X, float>(x, weight, out, accumulate, stream);
    case DType::f16:
      return start<X, __half>(x, weight, out, accumulate, stream);
    case DType::bf16:
      return start<X, __nv_bfloat16>(x, weight, out, accumulate, stream);
    case DType::i32:
      assert(false);
  }
}

}  // namespace

void any_product(const View& x, const View& weight, const View& out, bool accumulate,
                 cudaStream_t stream) {
  if (x.rows() == 0 || weight.rows() == 0) return;
  if (x.type == DType::f32) {
    start<float>(x, weight, out, accumulate, stream);
  } else {
    start<__nv_bfloat16>(x, weight, out, accumulate, stream);
  }
}

}  // namespace fastkv::cuda
