#pragma once

#include <cuda_bf16.h>

#include <cstdint>

// Asynchronous copies and warp matrix products of compute capability 8.0. left_row() and
// right_row() are for tiles whose rows are 16 bytes longer than their contents: the 8 rows of a
// matrix then lie in different banks.

namespace fastkv::cuda::sm80 {

constexpr int kPadding = 8;  // elements

/// Copies 16 bytes to shared memory, or zeros. kAhead: what is behind them, up to 128 bytes, will
/// be wanted soon and is brought closer.
template <bool kAhead = false>
__device__ __forceinline__ void copy_async(std::uint32_t to, const void* from, bool zeros) {
  if constexpr (kAhead) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(zeros ? 0 : 16)
                 : "memory");
  } else {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(zeros ? 0 : 16)
                 : "memory");
  }
}
__device__ __forceinline__ void copy_async(__nv_bfloat16* to, const __nv_bfloat16* from,
                                           bool zeros) {
  copy_async(static_cast<std::uint32_t>(__cvta_generic_to_shared(to)), from, zeros);
}

__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most `kPending` of the committed groups are still on their way.
template <int kPending>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Four 8 x 8 matrices; thread t names (by its place in shared memory) row t % 8 of matrix t / 8.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const __nv_bfloat16* row) {
  load_matrices(to, static_cast<std::uint32_t>(__cvta_generic_to_shared(row)));
}

__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4],
                                                         std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4],
                                                         const __nv_bfloat16* row) {
  load_matrices_transposed(to, static_cast<std::uint32_t>(__cvta_generic_to_shared(row)));
}

/// d (16, 8) += a (16, 16) b (16, 8)
__device__ __forceinline__ void mma(float* d, const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Address of thread's row when load_matrices() reads a (16, 16) tile for the left side.
template <int kPitch>
__device__ __forceinline__ const __nv_bfloat16* left_row(const __nv_bfloat16* tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return tile + lane % 16 * kPitch + lane / 16 * 8;
}

/// The same for 16 columns of the right side, stored as 16 rows of depth 16: the first two
/// registers belong to columns 0 to 7, the others to 8 to 15.
template <int kPitch>
__device__ __forceinline__ const __nv_bfloat16* right_row(const __nv_bfloat16* tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return tile + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 8;
}

}  // namespace fastkv::cuda::sm80
