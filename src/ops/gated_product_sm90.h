#pragma once

#include <cuda_runtime_api.h>

#include "ops/device.h"

namespace fastkv::cuda {

/// Whether gated_product_sm90() takes these and gains by it: many rows of bfloat16.
bool gated_product_sm90_fits(const View& x, const Matrix& weight, const View& out);

/// The first half of an MLP on compute capability 9.0: out = silu(gate) * up with
/// (gate, up) = x weight^T, which leave the multiprocessor only as out.
/// x (n, K), weight (2 I, K), gate first, in one part or two, out (n, I), all bfloat16
void gated_product_sm90(const View& x, const Matrix& weight, const View& out, cudaStream_t stream);

}  // namespace fastkv::cuda
