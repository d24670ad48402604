#pragma once

#include <cstdint>

#include "core/tensor.h"

// Inner loops of linear layers, compiled for each instruction set.

namespace fastkv {

/// to[i] = from[i] as float32; from (count) of `type`
void convert_to_float(const void* from, DType type, std::int64_t count, float* to);
/// to[i] = from[i] as bfloat16, rounded to nearest, ties to even
void convert_to_bf16(const float* from, std::int64_t count, std::uint16_t* to);

/// Products of few rows of x with consecutive rows of a weight, which is read once.
struct FewRows {
  const float* x = nullptr;  // (rows, depth)
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;  // at most max_few_rows
  std::int64_t depth = 0;
  const void* w = nullptr;  // (columns, depth) of `type`
  std::int64_t w_stride = 0;
  DType type = DType::f32;
  std::int64_t columns = 0;
  float* out = nullptr;  // (rows, columns)
  std::int64_t out_stride = 0;
  bool accumulate = false;
};
constexpr std::int64_t max_few_rows = 8;
void multiply_few_rows(const FewRows& args);

}  // namespace fastkv
