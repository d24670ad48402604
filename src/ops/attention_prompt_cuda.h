#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace fastkv::cuda {

/// Causal attention of a fresh prompt, softmax(q k^T / sqrt(D)) v: bfloat16 in and out, float32
/// accumulation. Keys are never repeated for grouped queries. Letters as in device.h.
struct PromptAttentionArgs {
  const __nv_bfloat16* q = nullptr;  // (n, Hq, D), heads D apart
  const __nv_bfloat16* k = nullptr;  // (n, Hkv, D)
  const __nv_bfloat16* v = nullptr;  // (n, Hkv, D)
  // Elements between rows: q, k and v usually are slices of one (n, (Hq + 2 Hkv) D) buffer.
  std::int64_t q_stride = 0;
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
  const std::int32_t* positions = nullptr;  // (n) ascending; read only with a sliding window
  std::int64_t n = 0;
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t sliding_window = 0;  // a query at position p sees positions > p - window; 0: all
  __nv_bfloat16* out = nullptr;     // (n, Hq * D)
  std::int64_t out_stride = 0;
  float* log_sum_exp = nullptr;  // (n, Hq): natural log of each softmax denominator, optional
};

/// Whether shape, strides and addresses fit the kernel for compute capability 9.0, which the
/// caller has made sure of.
bool prompt_attention_sm90_supports(const PromptAttentionArgs& args);
/// wgmma and TMA; D 64 and 128.
void prompt_attention_sm90(const PromptAttentionArgs& args, cudaStream_t stream);
/// mma.sync and cp.async, compute capability 8.0 and above; D 64, 96 and 128. Rows must lie on
/// 16-byte borders.
void prompt_attention_sm80(const PromptAttentionArgs& args, cudaStream_t stream);

}  // namespace fastkv::cuda
