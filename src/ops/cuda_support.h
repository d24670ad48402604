#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <utility>

#include "core/tensor.h"

// What the CUDA files share: checked calls, launches, and conversions on the device.

namespace fastkv::cuda {

/// Throws Error that names the call where `status` is not success.
void check(cudaError_t status, const char* call);
/// Throws Error with a sentence.
[[noreturn]] void refuse(const std::string& sentence);
#define FASTKV_CUDA(call) ::fastkv::cuda::check((call), #call)

/// Launches a kernel and checks it. With `dependent`, the kernel may start while the one before it
/// in the stream still runs: it must call wait_for_inputs() before it reads what that one wrote.
template <class... Parameters, class... Args>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned block,
            std::size_t shared, cudaStream_t stream, bool dependent, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = dependent ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), name);
}

/// Lets a kernel use more shared memory than the default limit.
template <class Kernel>
void allow_shared(Kernel* kernel, std::size_t bytes) {
  FASTKV_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)));
}

/// Multiprocessors of the device in use.
int multiprocessors();
/// Bytes of shared memory that one block may have.
std::size_t shared_limit();

/// Whether every row begins on a 16-byte border.
inline bool on_16_bytes(const View& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         view.row_stride * static_cast<std::int64_t>(size_of(view.type)) % 16 == 0;
}

constexpr unsigned blocks_for(std::int64_t work, std::int64_t per_block) {
  return static_cast<unsigned>((work + per_block - 1) / per_block);
}

#ifdef __CUDACC__

/// Blocks of a dependent kernel wait here until everything before it in the stream is written.
__device__ inline void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel's blocks start, as far as there is room.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

__device__ inline float warp_sum(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffU, x, lanes);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, lanes));
  return x;
}

/// The sum over a block of up to 1024 threads, known to every thread. `scratch`: 32 floats.
__device__ inline float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  const int warps = (blockDim.x + 31) / 32;
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = static_cast<int>(threadIdx.x % 32) < warps ? scratch[threadIdx.x % 32] : 0.0F;
  __syncthreads();
  return warp_sum(x);
}

#endif  // __CUDACC__

}  // namespace fastkv::cuda
