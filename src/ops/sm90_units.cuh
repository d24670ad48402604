#pragma once

#include <cuda_bf16.h>

#include <cstdint>

// Hopper's asynchronous machinery as functions: mbarriers, TMA tile loads and warpgroup matrix
// products. Device code for compute capability 9.0 (sm_90a) only. What each instruction does, and
// the layout of its operands: PTX ISA, sections "mbarrier", "cp.async.bulk.tensor" and "wgmma".

namespace fastkv::cuda::sm90 {

// ---- mbarriers: a phase ends when all arrivals and all expected bytes have come ----

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/// Makes initialised barriers visible to the copy engine and the other blocks of the cluster.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives at the barrier that lies at this place in another block of the cluster, or in this one.
/// Says that this thread has read; what it wrote before need not be visible there.
__device__ __forceinline__ void barrier_arrive_at(std::uint32_t barrier, std::uint32_t block) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
      "r"(block)
      : "memory");
}

/// Waits for the end of the phase of this parity.
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Position in a ring of `kStages` buffers, with the parity that its barriers have.
template <int kStages>
struct Ring {
  int stage = 0;
  std::uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Waits for the 128 threads of a warpgroup. `group`: 0 to 14
__device__ __forceinline__ void group_sync(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

// ---- Clusters ----

__device__ __forceinline__ std::uint32_t block_in_cluster() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// Waits for all threads of the cluster; what they wrote is visible then.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}

// ---- Registers ----

template <int kRegisters>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- TMA ----

/// Copies a box of a (rows, heads, D) tensor to shared memory; what lies outside the tensor reads
/// as zeros.
__device__ __forceinline__ void tma_load(const void* map, std::uint32_t to, std::uint32_t barrier,
                                         int column, int head, int row) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(head), "r"(row)
      : "memory");
}

/// The same into every block of the cluster in `blocks` (a bit each), to the same place there, and
/// each block's barrier at the same place hears of it.
__device__ __forceinline__ void tma_load_to_cluster(const void* map, std::uint32_t to,
                                                    std::uint32_t barrier, int column, int head,
                                                    int row, std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(head), "r"(row), "h"(blocks)
      : "memory");
}

/// Copies a box of shared memory to a (rows, heads, D) tensor; what lies outside is left out.
__device__ __forceinline__ void tma_store(const void* map, std::uint32_t from, int column, int head,
                                          int row) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(from), "r"(column), "r"(head), "r"(row)
      : "memory");
}
__device__ __forceinline__ void tma_store_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until shared memory that was stored from may be written again.
__device__ __forceinline__ void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
/// Until everything stored has been written.
__device__ __forceinline__ void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
__device__ __forceinline__ void store_shared(std::uint32_t to, std::uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}
/// What this thread wrote to shared memory is seen by copies that start after this.
__device__ __forceinline__ void fence_for_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void tma_prefetch_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- warpgroup matrix products ----

/// Describes a tile in shared memory whose rows of 128 bytes were written by TMA with the 128-byte
/// swizzle: blocks of 8 rows follow each other, columns beyond the first 64 lie
/// `next_columns_bytes` further on (read only where the columns run along M or N).
__device__ __forceinline__ std::uint64_t tile_descriptor(std::uint32_t address,
                                                         std::uint32_t next_columns_bytes) {
  constexpr std::uint64_t swizzle_128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t eight_rows = std::uint64_t{1024 >> 4} << 32;
  return swizzle_128 | eight_rows | std::uint64_t{next_columns_bytes >> 4} << 16 |
         ((address & 0x3FFFF) >> 4);
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most `kPending` of the committed groups are still running.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of registers across a point where the matrix units write
/// them.
template <int kCount>
__device__ __forceinline__ void pin(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

/// Keeps a following wgmma_wait() after the computation of two numbers. The assembler would move
/// the wait up, and what is meant to run under a product would run after it; it leaves the order of
/// waits and arrivals alone. The arrival never happens: no computation returns this NaN.
__device__ __forceinline__ void wait_after(float x, float y, std::uint32_t barrier) {
  asm volatile(
      "{\n.reg .pred never;\n.reg .b32 both;\n"
      "and.b32 both, %0, %1;\n"
      "setp.eq.b32 never, both, 0xffdeadbe;\n"
      "@never mbarrier.arrive.shared::cta.b64 _, [%2];\n}" ::"r"(__float_as_uint(x)),
      "r"(__float_as_uint(y)), "r"(barrier)
      : "memory");
}

/// Reads a warp's 16 rows of a swizzled tile to registers, as the left side of products: 4 words
/// for every 16 columns. `rows` is the address of the first row.
template <int kCount>
__device__ __forceinline__ void load_left(std::uint32_t (&to)[kCount], std::uint32_t rows,
                                          std::uint32_t next_columns_bytes) {
  const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 0; step < kCount / 4; ++step) {
    const std::uint32_t chunk = (step % 4 * 2 + lane / 16) ^ (lane % 8);
    const std::uint32_t address =
        rows + step / 4 * next_columns_bytes + lane % 16 * 128 + chunk * 16;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[4 * step]), "=r"(to[4 * step + 1]), "=r"(to[4 * step + 2]),
                   "=r"(to[4 * step + 3])
                 : "r"(address)
                 : "memory");
  }
}

// One warpgroup's product of 64 rows and 16 of depth; thread t holds of the result the rows
// 16 (t / 32) + (t % 32) / 4 (+ 8), and of every 8 columns the two at 2 (t % 4): d[4 g], d[4 g + 1]
// for the first row and d[4 g + 2], d[4 g + 3] for the second. Registers of A are laid out alike.
//   mma_shared:     d = or += A B^T, A (64, 16) and B (N, 16) tiles in shared memory
//   mma_registers:  d = or += A B^T, A (64, 16) in registers
//   mma_transposed: d += A B, A in registers, B (16, N) in shared memory

// The registers of a result: as operands, and their names in an instruction.
#define FASTKV_OPERANDS_8(d, i)                                                               \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FASTKV_OPERANDS_32(d, i)                                                      \
  FASTKV_OPERANDS_8(d, i), FASTKV_OPERANDS_8(d, i + 8), FASTKV_OPERANDS_8(d, i + 16), \
      FASTKV_OPERANDS_8(d, i + 24)
#define FASTKV_OPERANDS_64(d, i) FASTKV_OPERANDS_32(d, i), FASTKV_OPERANDS_32(d, i + 32)
#define FASTKV_NAMES_32                                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FASTKV_NAMES_64                                                                            \
  FASTKV_NAMES_32                                                                                  \
      ", "                                                                                         \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
      "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FASTKV_NAMES_128                                                                           \
  FASTKV_NAMES_64                                                                                  \
      ", "                                                                                         \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
      "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, " \
      "%100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, " \
      "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

__device__ __forceinline__ void mma_registers(float (&d)[32], std::uint32_t a0, std::uint32_t a1,
                                              std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                              int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" FASTKV_NAMES_32
      "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}"
      : FASTKV_OPERANDS_32(d, 0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(add));
}

__device__ __forceinline__ void mma_transposed(float (&d)[32], std::uint32_t a0, std::uint32_t a1,
                                               std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                               int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" FASTKV_NAMES_32
      "}, {%32, %33, %34, %35}, %36, add, 1, 1, 1;\n}"
      : FASTKV_OPERANDS_32(d, 0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(add));
}

__device__ __forceinline__ void mma_transposed(float (&d)[64], std::uint32_t a0, std::uint32_t a1,
                                               std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                               int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FASTKV_NAMES_64
      "}, {%64, %65, %66, %67}, %68, add, 1, 1, 1;\n}"
      : FASTKV_OPERANDS_64(d, 0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(add));
}

__device__ __forceinline__ void mma_shared(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                           int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FASTKV_NAMES_64
      "}, %64, %65, add, 1, 1, 0, 0;\n}"
      : FASTKV_OPERANDS_64(d, 0)
      : "l"(a), "l"(b), "r"(add));
}

__device__ __forceinline__ void mma_shared(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                           int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" FASTKV_NAMES_128
      "}, %128, %129, add, 1, 1, 0, 0;\n}"
      : FASTKV_OPERANDS_64(d, 0), FASTKV_OPERANDS_64(d, 64)
      : "l"(a), "l"(b), "r"(add));
}

#undef FASTKV_OPERANDS_8
#undef FASTKV_OPERANDS_32
#undef FASTKV_OPERANDS_64
#undef FASTKV_NAMES_32
#undef FASTKV_NAMES_64
#undef FASTKV_NAMES_128

}  // namespace fastkv::cuda::sm90
