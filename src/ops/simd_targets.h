#pragma once

// Which instruction sets the SIMD files are compiled for: the baseline, AVX2, AVX-512, NEON. Those
// between them would add build time and no speed; the scalable ones (SVE, RVV) cannot hold vectors
// in arrays, as the matrix kernels do, and Arm processors that have SVE have NEON.
// HWY_DISABLED_TARGETS must be set before the first Highway header.

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
