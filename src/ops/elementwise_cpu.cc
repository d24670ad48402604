// Operations on each row alone: rms_norm, add_bias, swiglu, rope.

#include <cassert>
#include <cmath>

#include "ops/cpu_device.h"
#include "ops/elementwise_kernels.h"
#include "ops/parallel.h"

namespace fastkv {

void CpuDevice::rms_norm(const View& x, const View& weight, float epsilon, const View& out) {
  const std::int64_t width = x.shape[1];
  const float* w = weight.as<float>();  // (H)
  parallel_for(threads_for(x.rows() * width), x.rows(), [&](std::int64_t row, int) {
    rms_norm_row(x.row<float>(row), w, epsilon, width, out.row<float>(row));
  });
}

void CpuDevice::add_bias(const View& x, const View& bias) {
  const std::int64_t width = x.shape[1];
  const float* b = bias.as<float>();  // (M)
  parallel_for(threads_for(x.rows() * width), x.rows(), [&](std::int64_t row, int) {
    float* to = x.row<float>(row);
    for (std::int64_t i = 0; i < width; ++i) to[i] += b[i];
  });
}

void CpuDevice::swiglu(const View& gate_up, const View& out) {
  const std::int64_t width = out.shape[1];
  assert(gate_up.shape[1] == 2 * width);
  parallel_for(threads_for(out.rows() * width), out.rows(), [&](std::int64_t row, int) {
    const float* gate = gate_up.row<float>(row);
    swiglu_row(gate, gate + width, width, out.row<float>(row));
  });
}

void CpuDevice::rope(const View& x, std::int64_t rotated, const View& positions,
                     const View& frequencies, const View& out) {
  const std::int64_t heads = x.shape[1];
  const std::int64_t half = x.shape[2] / 2;
  const float* frequency = frequencies.as<float>();  // (D / 2)
  parallel_for(threads_for(x.rows() * heads * half), x.rows(), [&](std::int64_t row, int) {
    const auto position = static_cast<float>(positions.as<std::int32_t>()[row]);
    const float* from = x.row<float>(row);
    float* to = out.row<float>(row);
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = position * frequency[i];
      const float cosine = std::cos(angle);
      const float sine = std::sin(angle);
      for (std::int64_t at = i; at < rotated * 2 * half; at += 2 * half) {
        const float a = from[at], b = from[at + half];
        to[at] = a * cosine - b * sine;
        to[at + half] = b * cosine + a * sine;
      }
    }
    if (to != from)
      std::copy(from + rotated * 2 * half, from + heads * 2 * half, to + rotated * 2 * half);
  });
}

}  // namespace fastkv
