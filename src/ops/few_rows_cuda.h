#pragma once

#include <cuda_runtime_api.h>

#include "core/tensor.h"

// Matrix products with up to eight rows, as in decoding: bound by reading the weights once.

namespace fastkv::cuda {

enum class FewRows {
  store,       // out = x W^T
  accumulate,  // out += x W^T
  gated,       // out = silu(x Wg^T) * (x Wu^T), weight (2 I, K): gate rows first
};

struct FewRowsArgs {
  View x;       // (n, K) bfloat16, or float32 where it is normalised; n <= 8
  View weight;  // (M, K) bfloat16
  View out;     // (n, M), or (n, M / 2) where gated; bfloat16 or float32
  View norm;    // (K) float32: x is RMS-normalised with it first; empty: it is not
  float epsilon = 0;
  FewRows kind = FewRows::store;
};

/// Whether types, sizes and alignment suit the kernel.
bool few_rows_product_fits(const View& x, const Matrix& weight, const View& out, bool normed);
void few_rows_product(const FewRowsArgs& args, cudaStream_t stream);

}  // namespace fastkv::cuda
