// In place of the CUDA files where the build has no CUDA.

#include "core/error.h"
#include "ops/device.h"

namespace fastkv {

std::unique_ptr<Device> make_cuda_device(const CudaOptions&) {
  fail("this build of fastkv has no CUDA device; use --device cpu, or build where nvcc is found");
}

bool has_cuda_device() { return false; }

}  // namespace fastkv
