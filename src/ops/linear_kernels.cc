#include "ops/linear_kernels.h"

#include "ops/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/linear_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

#include <cstring>

#include "ops/convert.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::HWY_NAMESPACE {

template <class T>
void convert_typed(const void* from, DType type, std::int64_t count, float* to) {
  const auto* numbers = static_cast<const T*>(from);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(load(numbers + i), Floats(), to + i);
  for (; i < count; ++i) to[i] = load_float(from, type, i);
}

void convert_to_float(const void* from, DType type, std::int64_t count, float* to) {
  if (type == DType::bf16) {
    convert_typed<hwy::bfloat16_t>(from, type, count, to);
  } else if (type == DType::f16) {
    convert_typed<hwy::float16_t>(from, type, count, to);
  } else {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  }
}

void convert_to_bf16(const float* from, std::int64_t count, std::uint16_t* to) {
  // Compilers vectorise this loop; Highway's conversion would truncate on some targets.
  for (std::int64_t i = 0; i < count; ++i) to[i] = bf16_from_float(from[i]);
}

/// Dot products of `rows` rows of x with `outputs` rows of w, all at once: each vector of x and w
/// is loaded once for all products that it takes part in.
template <int rows, int outputs, class T>
HWY_INLINE void dot_products(const FewRows& args, std::int64_t first_row, std::int64_t column) {
  const Floats d;
  constexpr int steps = rows * outputs <= 2 ? 4 : rows * outputs <= 4 ? 2 : 1;
  const float* x = args.x + first_row * args.x_stride;
  const T* w = static_cast<const T*>(args.w) + column * args.w_stride;
  Vector sum[steps][outputs][rows];
  for (int s = 0; s < steps; ++s)
    for (int o = 0; o < outputs; ++o)
      for (int r = 0; r < rows; ++r) sum[s][o][r] = hn::Zero(d);

  std::int64_t k = 0;
  for (; k + steps * lanes <= args.depth; k += steps * lanes) {
#pragma GCC unroll 4
    for (int s = 0; s < steps; ++s) {
      Vector part[outputs];
#pragma GCC unroll 4
      for (int o = 0; o < outputs; ++o) part[o] = load(w + o * args.w_stride + k + s * lanes);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const Vector input = hn::LoadU(d, x + r * args.x_stride + k + s * lanes);
#pragma GCC unroll 4
        for (int o = 0; o < outputs; ++o) sum[s][o][r] = hn::MulAdd(part[o], input, sum[s][o][r]);
      }
    }
  }
  for (int o = 0; o < outputs; ++o) {
    for (int r = 0; r < rows; ++r) {
      Vector total = sum[0][o][r];
      for (int s = 1; s < steps; ++s) total = hn::Add(total, sum[s][o][r]);
      float value = hn::GetLane(hn::SumOfLanes(d, total));
      for (std::int64_t rest = k; rest < args.depth; ++rest) {
        value += x[r * args.x_stride + rest] * load_float(w + o * args.w_stride, args.type, rest);
      }
      float& to = args.out[(first_row + r) * args.out_stride + column + o];
      to = args.accumulate ? to + value : value;
    }
  }
}

template <int outputs, class T>
HWY_INLINE void multiply_outputs(const FewRows& args, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) dot_products<4, outputs, T>(args, row, column);
  for (; row + 2 <= args.rows; row += 2) dot_products<2, outputs, T>(args, row, column);
  for (; row < args.rows; ++row) dot_products<1, outputs, T>(args, row, column);
}

template <class T>
void multiply_typed(const FewRows& args) {
  // One row is bound by reading the weight; with more, sums of several outputs share each vector
  // of x.
  std::int64_t column = 0;
  if (args.rows > 1) {
    for (; column + 3 <= args.columns; column += 3) multiply_outputs<3, T>(args, column);
  }
  for (; column < args.columns; ++column) multiply_outputs<1, T>(args, column);
}

void multiply_few_rows(const FewRows& args) {
  if (args.type == DType::bf16) {
    multiply_typed<hwy::bfloat16_t>(args);
  } else if (args.type == DType::f16) {
    multiply_typed<hwy::float16_t>(args);
  } else {
    multiply_typed<float>(args);
  }
}

}  // namespace fastkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv {

HWY_EXPORT(convert_to_float);
HWY_EXPORT(convert_to_bf16);
HWY_EXPORT(multiply_few_rows);

void convert_to_float(const void* from, DType type, std::int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(convert_to_float)(from, type, count, to);
}
void convert_to_bf16(const float* from, std::int64_t count, std::uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(convert_to_bf16)(from, count, to);
}
void multiply_few_rows(const FewRows& args) { HWY_DYNAMIC_DISPATCH(multiply_few_rows)(args); }

}  // namespace fastkv
#endif
