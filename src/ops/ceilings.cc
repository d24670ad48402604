#include "ops/ceilings.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "ops/gemm.h"
#include "ops/scratch.h"

namespace fastkv {
namespace {

/// Best of several runs: others on the machine only make it slower.
template <class Body>
double best_seconds(int repeats, const Body& body) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

/// Runs body with OpenMP, and so oneDNN, on `threads` threads.
template <class Body>
void with_threads(int threads, const Body& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs());
  body();
  omp_set_num_threads(before);
}

}  // namespace

double gemm_flops_per_second(DType type, int threads) {
  const GemmShape shape{.rows = 4096, .columns = 4096, .depth = 2048};
  const bool bf16 = type == DType::bf16 && has_bf16_gemm();
  const std::size_t width = bf16 ? 2 : 4;
  const auto x = allocate_aligned(static_cast<std::size_t>(shape.rows * shape.depth) * width);
  const auto w = allocate_aligned(static_cast<std::size_t>(shape.columns * shape.depth) * width);
  const auto out = allocate_aligned(static_cast<std::size_t>(shape.rows * shape.columns) * 4);
  if (bf16) {
    std::fill_n(static_cast<std::uint16_t*>(x.get()), shape.rows * shape.depth, 0x3f80);
    std::fill_n(static_cast<std::uint16_t*>(w.get()), shape.columns * shape.depth, 0x3f80);
  } else {
    std::fill_n(static_cast<float*>(x.get()), shape.rows * shape.depth, 1.0F);
    std::fill_n(static_cast<float*>(w.get()), shape.columns * shape.depth, 1.0F);
  }
  double seconds = 0;
  with_threads(threads, [&] {
    seconds = best_seconds(4, [&] {
      if (bf16) {
        gemm_bf16(shape, static_cast<std::uint16_t*>(x.get()), shape.depth,
                  static_cast<std::uint16_t*>(w.get()), shape.depth, /*accumulate=*/false,
                  static_cast<float*>(out.get()), shape.columns);
      } else {
        gemm_f32(shape, static_cast<float*>(x.get()), shape.depth, static_cast<float*>(w.get()),
                 shape.depth, /*accumulate=*/false, static_cast<float*>(out.get()), shape.columns);
      }
    });
  });
  return 2.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.columns) *
         static_cast<double>(shape.depth) / seconds;
}

double read_bytes_per_second(int threads) {
  // Blocks are dealt out one by one, as tasks of operations are: neighbours are read at the same
  // time, which memory likes better than distant halves.
  constexpr std::int64_t block = 16 * 1024;                                 // numbers, 128 KiB
  constexpr std::int64_t blocks = (std::int64_t{512} << 20) / (block * 8);  // 512 MiB
  constexpr std::int64_t count = block * blocks;
  const auto memory = allocate_aligned(static_cast<std::size_t>(count) * sizeof(std::uint64_t));
  auto* numbers = static_cast<std::uint64_t*>(memory.get());
  double seconds = 0;
  std::uint64_t total = 0;
  with_threads(threads, [&] {
  // Written by several threads: where memory has several homes, each gets a part.
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < count; ++i) numbers[i] = static_cast<std::uint64_t>(i);
    seconds = best_seconds(10, [&] {
      std::uint64_t sum = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : sum)
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::uint64_t* from = numbers + b * block;
        std::uint64_t part[8] = {};
        for (std::int64_t i = 0; i < block; i += 8)
          for (std::int64_t j = 0; j < 8; ++j) part[j] += from[i + j];
        for (std::uint64_t p : part) sum += p;
      }
      total += sum;
    });
  });
  // The sum is looked at, so that nobody leaves out the reading.
  return total == 1 ? 0 : static_cast<double>(count) * sizeof(std::uint64_t) / seconds;
}

}  // namespace fastkv
