// Operations on scores, one column a token: last_query_dots, pool, sum_groups.

#include <algorithm>
#include <cassert>
#include <limits>
#include <vector>

#include "ops/cpu_device.h"
#include "ops/linear_kernels.h"
#include "ops/parallel.h"

namespace fastkv {

void CpuDevice::last_query_dots(const View& q, const View& k, const View& out) {
  const std::int64_t query_heads = q.shape[1];
  const std::int64_t kv_heads = k.shape[1];
  const std::int64_t dim = k.shape[2];
  const std::int64_t group = query_heads / kv_heads;
  const float* last = q.row<float>(q.rows() - 1);  // (Hq, D)
  // Nothing nonlinear stands between the dots and their sum, so queries that share keys are added
  // first, and what is left is one row against the keys as a weight (n, Hkv * D).
  std::vector<float> query(static_cast<std::size_t>(kv_heads * dim));
  for (std::int64_t h = 0; h < query_heads; ++h) {
    float* to = query.data() + h / group * dim;
    for (std::int64_t d = 0; d < dim; ++d) to[d] += last[h * dim + d];
  }
  constexpr std::int64_t task_keys = 256;
  const std::int64_t keys = k.rows();
  parallel_for(threads_for(keys * kv_heads * dim), (keys + task_keys - 1) / task_keys,
               [&](std::int64_t task, int) {
                 const std::int64_t first = task * task_keys;
                 multiply_few_rows({.x = query.data(),
                                    .x_stride = kv_heads * dim,
                                    .rows = 1,
                                    .depth = kv_heads * dim,
                                    .w = k.row_bytes(first),
                                    .w_stride = k.row_stride,
                                    .type = DType::f32,
                                    .columns = std::min(task_keys, keys - first),
                                    .out = out.as<float>() + first,
                                    .out_stride = out.row_stride,
                                    .accumulate = false});
               });
}

void CpuDevice::pool(const View& scores, std::int64_t columns, int kernel, Pooling pooling,
                     const View& out) {
  assert(columns <= scores.shape[1]);
  parallel_for(threads_for(scores.rows() * columns * kernel), scores.rows(),
               [&](std::int64_t row, int) {
                 const float* in = scores.row<float>(row);
                 float* to = out.row<float>(row);
                 for (std::int64_t j = 0; j < columns; ++j) {
                   const std::int64_t begin = std::max<std::int64_t>(0, j - kernel / 2);
                   const std::int64_t end = std::min(columns, j - kernel / 2 + kernel);
                   if (pooling == Pooling::max) {
                     float highest = -std::numeric_limits<float>::infinity();
                     for (std::int64_t i = begin; i < end; ++i) highest = std::max(highest, in[i]);
                     to[j] = highest;
                   } else {
                     float sum = 0;
                     for (std::int64_t i = begin; i < end; ++i) sum += in[i];
                     to[j] = sum / static_cast<float>(kernel);
                   }
                 }
               });
}

void CpuDevice::sum_groups(const View& scores, std::int64_t group, const View& out) {
  const std::int64_t columns = scores.shape[1];
  assert(scores.rows() == out.rows() * group);
  parallel_for(threads_for(scores.rows() * columns), out.rows(), [&](std::int64_t row, int) {
    float* to = out.row<float>(row);
    std::copy_n(scores.row<float>(row * group), columns, to);
    for (std::int64_t member = 1; member < group; ++member) {
      const float* in = scores.row<float>(row * group + member);
      for (std::int64_t j = 0; j < columns; ++j) to[j] += in[j];
    }
  });
}

void CpuDevice::argmax(const View& x, const View& out) {
  const std::int64_t columns = x.shape[1];
  parallel_for(threads_for(x.shape.count()), x.rows(), [&](std::int64_t row, int) {
    out.as<std::int32_t>()[row] =
        highest_column({x.row<float>(row), static_cast<std::size_t>(columns)});
  });
}

}  // namespace fastkv
