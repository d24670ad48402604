#pragma once

#include <cstdint>

// Matrix products through oneDNN: out = x * w^T or out += x * w^T, with
//   x (rows, depth), w (columns, depth), out (rows, columns) float32, each with a row stride.
// Called inside a parallel_for() task they run on the calling thread alone; otherwise on as many
// threads as OpenMP gives.

namespace fastkv {

struct GemmShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
};

void gemm_f32(const GemmShape& shape, const float* x, std::int64_t x_stride, const float* w,
              std::int64_t w_stride, bool accumulate, float* out, std::int64_t out_stride);

/// Whether the processor multiplies bfloat16 natively (AVX-512-BF16, AMX).
bool has_bf16_gemm();
/// The same with x and w in bfloat16 and sums in float32; only where has_bf16_gemm().
void gemm_bf16(const GemmShape& shape, const std::uint16_t* x, std::int64_t x_stride,
               const std::uint16_t* w, std::int64_t w_stride, bool accumulate, float* out,
               std::int64_t out_stride);

}  // namespace fastkv
