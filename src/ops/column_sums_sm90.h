#pragma once

#include "ops/column_sums_cuda.h"

namespace fastkv::cuda {

/// Whether the device is a Hopper one, the shape fits, and there are rows enough.
bool column_sums_sm90_pays(const ColumnSumsArgs& args);
/// As column_sums_mma(), with wgmma and TMA.
void column_sums_sm90(const ColumnSumsArgs& args, cudaStream_t stream);

}  // namespace fastkv::cuda
