#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace fastkv::cuda {

/// Sums of attention probabilities over the last `rows` queries of a fresh prompt:
///   out[h, j] = sum_i weight[i - (n - rows)] * exp(q[i, h] . k[j, h / g] / sqrt(D) - lse[i, h]),
/// i in [n - rows, n), i >= j, for every key j < n. Memory is linear in n, and the order of
/// additions depends on shapes only: the same arguments always give the same bits.
struct ColumnSumsArgs {
  const __nv_bfloat16* q = nullptr;  // (n, Hq, D), heads D apart
  const __nv_bfloat16* k = nullptr;  // (n, Hkv, D)
  std::int64_t q_stride = 0;         // elements between rows
  std::int64_t k_stride = 0;
  const std::int32_t* positions = nullptr;  // (n) ascending; read only with a sliding window
  std::int64_t n = 0;
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t rows = 0;               // 1 <= rows <= n
  const float* row_weights = nullptr;  // (rows) on the device; null: all one
  std::int64_t sliding_window = 0;     // a query at position p sees positions > p - window; 0: all
  const float* log_sum_exp = nullptr;  // (n, Hq) of prompt_attention_*
  float* out = nullptr;                // (Hq, n)
  std::int64_t out_stride = 0;         // elements between heads
};

/// Probabilities are summed times 2^raised, as the fast exponential takes what is below 2^-126 for
/// zero: scores that small keep their order.
inline constexpr float raised = 64;
inline constexpr float lowering = 0x1p-64F;

/// D 64, 96 and 128; rows must lie on 16-byte borders. Uses wgmma on compute capability 9.0 where
/// shapes allow, else mma.sync (8.0 and above).
void column_sums_mma(const ColumnSumsArgs& args, cudaStream_t stream);

}  // namespace fastkv::cuda
