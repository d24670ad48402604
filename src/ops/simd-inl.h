// SIMD building blocks, included once per instruction set by Highway's foreach_target; each .cc
// that uses it defines HWY_TARGET_INCLUDE and includes simd_targets.h first.

#if defined(FASTKV_OPS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTKV_OPS_SIMD_INL_H_
#undef FASTKV_OPS_SIMD_INL_H_
#else
#define FASTKV_OPS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace fastkv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr std::int64_t lanes = hn::MaxLanes(Floats());

// The register tile of the matrix kernels: rows x (2 vectors) sums stay in registers, which leaves
// two for a row of B and one for an element of A.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::int64_t tile_rows = 12;  // of 32 registers
#else
constexpr std::int64_t tile_rows = 6;  // of 16
#endif
constexpr std::int64_t tile_columns = 2 * lanes;

/// Numbers of any stored type as float32.
HWY_INLINE Vector load(const float* from) { return hn::LoadU(Floats(), from); }
HWY_INLINE Vector load(const hwy::bfloat16_t* from) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  return hn::PromoteTo(Floats(), hn::LoadU(halves, from));
}
HWY_INLINE Vector load(const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(Floats(), hn::LoadU(halves, from));
}

/// 2^(whole + fraction) for |fraction| <= 1/2 and -127 <= whole <= 127, by the polynomial of least
/// relative error, 2e-9 before rounding. 2^-127 is taken as 0.
HWY_INLINE Vector exp2_split(hn::Vec<hn::RebindToSigned<Floats>> whole, Vector fraction) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  Vector y = hn::Set(d, 0.000153460837F);
  y = hn::MulAdd(y, fraction, hn::Set(d, 0.00133999266F));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0.00961848806F));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0.0555032879F));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0.240226469F));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0.693147206F));
  y = hn::MulAdd(y, fraction, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(whole, hn::Set(di, 127)));
  return hn::Mul(y, hn::BitCast(d, exponent));
}

/// 2^x for x up to 127; 0 below -127 (so also for minus infinity), NaN for NaN.
HWY_INLINE Vector exp2(Vector x) {
  const Floats d;
  x = hn::Max(hn::Set(d, -127.0F), x);  // this order keeps NaN on x86
  const auto whole = hn::NearestInt(x);
  return exp2_split(whole, hn::Sub(x, hn::ConvertTo(d, whole)));
}

/// As exp2(), but what is below 2^-126 loses its digits one by one, down to 2^-149. For scores:
/// where all are that small their order still counts.
HWY_INLINE Vector exp2_gradual(Vector x) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  x = hn::Max(hn::Set(d, -150.0F), x);
  const auto whole = hn::NearestInt(x);
  const auto half = hn::ShiftRight<1>(whole);
  const Vector y = exp2_split(half, hn::Sub(x, hn::ConvertTo(d, whole)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), hn::Set(di, 127)));
  return hn::Mul(y, hn::BitCast(d, exponent));
}

/// e^x for x up to 88; 0 far below, NaN for NaN. More exact than exp2(x * log2(e)) would be,
/// because the product's rounding grows with x.
HWY_INLINE Vector exp(Vector x) {
  const Floats d;
  x = hn::Max(hn::Set(d, -88.0F), x);
  const auto whole = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504F)));
  const Vector n = hn::ConvertTo(d, whole);
  // ln 2 in two parts, the first of so few bits that n times it is exact.
  Vector rest = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), x);
  rest = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), rest);
  return exp2_split(whole, hn::Mul(rest, hn::Set(d, 1.44269504F)));
}

/// C = factor[row] * C + A B, or A B where `factor` is null.
///   a (tile_rows, depth) of row stride a_stride, b (depth, tile_columns) contiguous,
///   c (tile_rows, tile_columns) of row stride c_stride
HWY_INLINE void multiply_tile(const float* HWY_RESTRICT a, std::int64_t a_stride,
                              const float* HWY_RESTRICT b, std::int64_t depth,
                              const float* HWY_RESTRICT factor, float* HWY_RESTRICT c,
                              std::int64_t c_stride) {
  const Floats d;
  Vector sum[tile_rows][2];
#pragma GCC unroll 12
  for (std::int64_t i = 0; i < tile_rows; ++i) {
    if (factor != nullptr) {
      const Vector scale = hn::Set(d, factor[i]);
      sum[i][0] = hn::Mul(scale, hn::LoadU(d, c + i * c_stride));
      sum[i][1] = hn::Mul(scale, hn::LoadU(d, c + i * c_stride + lanes));
    } else {
      sum[i][0] = sum[i][1] = hn::Zero(d);
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    const Vector b0 = hn::LoadU(d, b + k * tile_columns);
    const Vector b1 = hn::LoadU(d, b + k * tile_columns + lanes);
#pragma GCC unroll 12
    for (std::int64_t i = 0; i < tile_rows; ++i) {
      const Vector element = hn::Set(d, a[i * a_stride + k]);
      sum[i][0] = hn::MulAdd(element, b0, sum[i][0]);
      sum[i][1] = hn::MulAdd(element, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 12
  for (std::int64_t i = 0; i < tile_rows; ++i) {
    hn::StoreU(sum[i][0], d, c + i * c_stride);
    hn::StoreU(sum[i][1], d, c + i * c_stride + lanes);
  }
}

}  // namespace fastkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
