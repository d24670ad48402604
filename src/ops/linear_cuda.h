#pragma once

#include <cuda_runtime_api.h>

#include "core/tensor.h"

namespace fastkv::cuda {

/// out = x W^T or out += x W^T for x and out of float32 or bfloat16, and W of any floating type.
void any_product(const View& x, const View& weight, const View& out, bool accumulate,
                 cudaStream_t stream);

}  // namespace fastkv::cuda
