#pragma once

#include "core/tensor.h"

// What this machine can do at best, measured now: the figures that benchmarks are compared with.
// Each takes about a second.

namespace fastkv {

/// Rate of a large matrix product through oneDNN for weights of `type`: bfloat16 where the
/// processor multiplies it natively, else float32. threads 0: all cores.
double gemm_flops_per_second(DType type, int threads = 0);

/// Rate of reading memory that no cache holds.
double read_bytes_per_second(int threads = 0);

}  // namespace fastkv
