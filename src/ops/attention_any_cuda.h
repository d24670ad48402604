#pragma once

#include <cuda_runtime_api.h>

#include "ops/device.h"

namespace fastkv::cuda {

/// Attention of any head size up to 256, any types, any mix of cached and fresh entries. Exact in
/// float32 and in memory that does not grow; not made for speed.
void attend_any(const AttentionArgs& args, std::span<const AttentionSegment> segments,
                cudaStream_t stream);

/// log_sum_exp (rows, Hq) of the last `rows` queries of a fresh prompt.
void any_log_sum_exp(const ColumnSumArgs& args, float* log_sum_exp, cudaStream_t stream);
/// Column sums for any head size up to 256 and both types. log_sum_exp (rows, Hq): of the last
/// rows; row_weights (rows) on the device, or null.
void any_column_sums(const ColumnSumArgs& args, const float* log_sum_exp,
                     std::int64_t log_sum_exp_stride, const float* row_weights,
                     cudaStream_t stream);

}  // namespace fastkv::cuda
