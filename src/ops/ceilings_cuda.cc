// What the device does at best, through the library and kernels that the engine itself uses.

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "ops/convert.h"
#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

/// Normal random numbers: a device runs faster on zeros than on data.
void fill(Device& device, const View& to) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> pattern(std::size_t{1} << 20);
  for (std::uint16_t& value : pattern) value = bf16_from_float(normal(random));
  const std::int64_t rows =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(pattern.size()) / to.shape[1]);
  for (std::int64_t first = 0; first < to.rows(); first += rows)
    device.upload(pattern.data(), to.slice(first, std::min(rows, to.rows() - first)));
}

/// Seconds of one call that the device keeps up: the median over the second half of a second. A
/// chip that was idle is faster for some tenths of a second, until its power limit slows it down.
template <class Work>
double seconds_each(Device& device, int count, const Work& work) {
  work();
  std::vector<double> seconds;
  for (double passed = 0; passed < 1;) {
    const auto begin = device.now();
    for (int i = 0; i < count; ++i) work();
    const auto end = device.now();
    device.synchronize();
    const double taken = end->seconds_since(*begin);
    passed += taken;
    if (passed > 0.5) seconds.push_back(taken / count);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

DeviceCeilings CudaDevice::ceilings() {
  DeviceCeilings found;
  {
    const std::int64_t n = row_chunk();
    const Tensor x = empty(DType::bf16, {n, n}), w = empty(DType::bf16, {n, n}),
                 out = empty(DType::bf16, {n, n});
    fill(*this, x);
    fill(*this, w);
    Matrix matrix;
    matrix.part[0] = w;
    matrix.parts = 1;
    const double seconds =
        seconds_each(*this, 20, [&] { linear(x, matrix, out, Store::overwrite); });
    found.gemm_flops = 2.0 * std::pow(static_cast<double>(n), 3) / seconds;
  }
  {
    const std::int64_t n = 32768, heads = 32, kv_heads = 8, dim = 128;
    const Tensor qkv = empty(DType::bf16, {n, (heads + 2 * kv_heads) * dim});
    const Tensor out = empty(DType::bf16, {n, heads * dim});
    const Tensor positions = empty(DType::i32, {n});
    fill(*this, qkv);
    const AttentionSegment segment{0, n, {}};
    const View all = qkv;
    const double seconds = seconds_each(*this, 2, [&] {
      attention({.q = all.heads(0, heads, dim),
                 .k = all.heads(heads * dim, kv_heads, dim),
                 .v = all.heads((heads + kv_heads) * dim, kv_heads, dim),
                 .positions = positions,
                 .segments = {&segment, 1},
                 .layout = {},
                 .sliding_window = 0,
                 .out = out,
                 .log_sum_exp = {}});
    });
    found.attention_flops = 2.0 * static_cast<double>(n) * static_cast<double>(n + 1) *
                            static_cast<double>(heads * dim) / seconds;
  }
  {
    const std::size_t bytes = std::size_t{2} << 30;
    const Tensor from = empty(DType::f32, {static_cast<std::int64_t>(bytes / 4)});
    const Tensor to = empty(DType::f32, {static_cast<std::int64_t>(bytes / 4)});
    const double seconds = seconds_each(*this, 4, [&] {
      FASTKV_CUDA(cudaMemcpyAsync(to.view().data, from.view().data, bytes, cudaMemcpyDeviceToDevice,
                                  stream()));
    });
    found.memory_bytes = 2.0 * static_cast<double>(bytes) / seconds;
  }
  return found;
}

}  // namespace fastkv
