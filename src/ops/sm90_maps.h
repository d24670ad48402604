#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "ops/cuda_support.h"

namespace fastkv::cuda {

/// Whether TMA and 16-byte accesses can reach the rows of a (n, heads, D) slice.
inline bool rows_on_16_bytes(const void* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 8 == 0;
}

/// Describes (n, heads, D) to the copy engine, in boxes of `box_rows` rows of one head and 64
/// columns, swizzled in 128 bytes as wgmma wants it.
inline CUtensorMap tensor_map(const __nv_bfloat16* data, std::int64_t n, std::int64_t heads,
                              std::int64_t head_dim, std::int64_t stride, int box_rows) {
  // Asked of the runtime, so that programs do not have to be linked with the driver's library.
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                           cudaEnableDefault, &found),
          "cuTensorMapEncodeTiled");
    if (found != cudaDriverEntryPointSuccess) {
      refuse("the CUDA driver has no cuTensorMapEncodeTiled");
    }
    return reinterpret_cast<Encode>(function);
  }();

  CUtensorMap map{};
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(head_dim), static_cast<cuuint64_t>(heads),
                              static_cast<cuuint64_t>(n)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(head_dim * 2),
                                static_cast<cuuint64_t>(stride * 2)};
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1, 1};
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<__nv_bfloat16*>(data), sizes,
             strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    refuse("cuTensorMapEncodeTiled: error " + std::to_string(status));
  }
  return map;
}

}  // namespace fastkv::cuda
