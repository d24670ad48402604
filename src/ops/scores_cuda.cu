// Operations on scores, one column a token: last_query_dots, pool, sum_groups.

#include <cassert>

#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

using cuda::blocks_for;
using cuda::to_float;

constexpr int threads = 256;

/// The queries that share a KV head are added up first: only the sum of their dots is wanted.
template <class T>
__global__ void sum_queries_kernel(const T* last, int group, int dim, int kv_heads, float* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= kv_heads * dim) return;
  float sum = 0;
  for (int g = 0; g < group; ++g) sum += to_float(last[(i / dim * group + g) * dim + i % dim]);
  out[i] = sum;
}

/// A warp a key. q (width) float32, k (n, width)
template <class T>
__global__ void dots_kernel(const float* q, const T* k, std::int64_t stride, std::int64_t n,
                            int width, float* out) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (threads / 32) + threadIdx.x / 32;
  if (row >= n) return;
  const int lane = threadIdx.x % 32;
  float sum = 0;
  for (int i = lane; i < width; i += 32) sum = fmaf(q[i], to_float(k[row * stride + i]), sum);
  sum = cuda::warp_sum(sum);
  if (lane == 0) out[row] = sum;
}

__global__ void pool_kernel(const float* scores, std::int64_t in_stride, std::int64_t columns,
                            int kernel, bool maximum, float* out, std::int64_t out_stride) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (j >= columns) return;
  const float* row = scores + blockIdx.y * in_stride;
  const std::int64_t first = max(j - kernel / 2, std::int64_t{0});
  const std::int64_t last = min(j - kernel / 2 + kernel, columns) - 1;
  float result = maximum ? row[first] : 0.0F;
  if (maximum) {
    for (std::int64_t i = first + 1; i <= last; ++i) result = fmaxf(result, row[i]);
  } else {
    for (std::int64_t i = first; i <= last; ++i) result += row[i];
    result /= static_cast<float>(kernel);
  }
  out[blockIdx.y * out_stride + j] = result;
}

__global__ void sum_groups_kernel(const float* scores, std::int64_t in_stride, std::int64_t group,
                                  std::int64_t columns, float* out, std::int64_t out_stride) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (j >= columns) return;
  float sum = 0;
  for (std::int64_t g = 0; g < group; ++g) sum += scores[(blockIdx.y * group + g) * in_stride + j];
  out[blockIdx.y * out_stride + j] = sum;
}

}  // namespace

void CudaDevice::last_query_dots(const View& q, const View& k, const View& out) {
  const std::int64_t n = k.rows();
  const int kv_heads = static_cast<int>(k.shape[1]);
  const int dim = static_cast<int>(k.shape[2]);
  const int group = static_cast<int>(q.shape[1]) / kv_heads;
  const Tensor summed = empty(DType::f32, {kv_heads * dim});
  const auto start = [&]<class T>(T*) {
    const auto* last = static_cast<const T*>(q.data) + (q.rows() - 1) * q.row_stride;
    cuda::launch("sum_queries_kernel", sum_queries_kernel<T>, dim3(blocks_for(kv_heads * dim, 128)),
                 128, 0, stream(), false, last, group, dim, kv_heads, summed.as<float>());
    cuda::launch("dots_kernel", dots_kernel<T>, dim3(blocks_for(n, threads / 32)), threads, 0,
                 stream(), false, static_cast<const float*>(summed.as<float>()),
                 static_cast<const T*>(k.data), k.row_stride, n, kv_heads * dim,
                 static_cast<float*>(out.data));
  };
  if (q.type == DType::f32) {
    start(static_cast<float*>(nullptr));
  } else {
    start(static_cast<__nv_bfloat16*>(nullptr));
  }
}

void CudaDevice::pool(const View& scores, std::int64_t columns, int kernel, Pooling pooling,
                      const View& out) {
  if (columns == 0 || scores.rows() == 0) return;
  cuda::launch("pool_kernel", pool_kernel,
               dim3(blocks_for(columns, threads), static_cast<unsigned>(scores.rows())), threads, 0,
               stream(), false, static_cast<const float*>(scores.data), scores.row_stride, columns,
               kernel, pooling == Pooling::max, static_cast<float*>(out.data), out.row_stride);
}

void CudaDevice::sum_groups(const View& scores, std::int64_t group, const View& out) {
  const std::int64_t columns = scores.shape[1];
  if (columns == 0 || out.rows() == 0) return;
  cuda::launch("sum_groups_kernel", sum_groups_kernel,
               dim3(blocks_for(columns, threads), static_cast<unsigned>(out.rows())), threads, 0,
               stream(), false, static_cast<const float*>(scores.data), scores.row_stride, group,
               columns, static_cast<float*>(out.data), out.row_stride);
}

}  // namespace fastkv
