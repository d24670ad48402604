#include "ops/elementwise_kernels.h"

#include "ops/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/elementwise_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

#include <cmath>

#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::HWY_NAMESPACE {

void rms_norm_row(const float* x, const float* weight, float epsilon, std::int64_t count,
                  float* out) {
  const Floats d;
  Vector s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const Vector a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  float squares = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < count; ++i) squares += x[i] * x[i];
  const float scale = 1 / std::sqrt(squares / static_cast<float>(count) + epsilon);
  for (i = 0; i < count; ++i) out[i] = weight[i] * (x[i] * scale);
}

HWY_INLINE Vector swiglu(Vector gate, Vector up) {
  const Floats d;
  // Where e^-gate would leave its range the sigmoid is as good as 0.
  const Vector x = hn::Min(hn::Neg(gate), hn::Set(d, 88.0F));
  return hn::Mul(hn::Div(gate, hn::Add(hn::Set(d, 1.0F), exp(x))), up);
}

void swiglu_row(const float* gate, const float* up, std::int64_t count, float* out) {
  const Floats d;
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(swiglu(hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, out + i);
  }
  for (; i < count; ++i) {
    out[i] = hn::GetLane(swiglu(hn::Set(d, gate[i]), hn::Set(d, up[i])));
  }
}

const char* simd_target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace fastkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv {

HWY_EXPORT(rms_norm_row);
HWY_EXPORT(swiglu_row);
HWY_EXPORT(simd_target_name);

void rms_norm_row(const float* x, const float* weight, float epsilon, std::int64_t count,
                  float* out) {
  HWY_DYNAMIC_DISPATCH(rms_norm_row)(x, weight, epsilon, count, out);
}
void swiglu_row(const float* gate, const float* up, std::int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(swiglu_row)(gate, up, count, out);
}

const char* simd_target_name() { return HWY_DYNAMIC_DISPATCH(simd_target_name)(); }

}  // namespace fastkv
#endif
