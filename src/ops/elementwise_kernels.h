#pragma once

#include <cstdint>

// Inner loops of operations on one row, compiled for each instruction set. Each array (count).

namespace fastkv {

/// out = weight * (x * rsqrt(mean of squares + epsilon))
void rms_norm_row(const float* x, const float* weight, float epsilon, std::int64_t count,
                  float* out);
/// out = gate * sigmoid(gate) * up
void swiglu_row(const float* gate, const float* up, std::int64_t count, float* out);

/// Name of the instruction set that the kernels use on this processor.
const char* simd_target_name();

}  // namespace fastkv
