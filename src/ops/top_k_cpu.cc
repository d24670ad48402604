#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdint>

#include "ops/cpu_device.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

/// Unsigned numbers in the order of the floats; both zeros are equal, NaN is below everything.
std::uint32_t order_key(float score) {
  if (score != score) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(score == 0 ? 0.0F : score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// The `count`-th highest key, and how many columns with exactly that key belong to the chosen.
struct Threshold {
  std::uint32_t key = 0;
  std::int64_t equal = 0;
};

/// Radix select: four passes over the keys, one byte each, highest byte first.
Threshold find_threshold(const float* scores, std::int64_t columns, std::int64_t count) {
  Threshold found{.key = 0, .equal = count};
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::int64_t histogram[256] = {};
    const std::uint64_t known = ~std::uint64_t{0} << (shift + 8);
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::uint32_t key = order_key(scores[j]);
      if (((key ^ found.key) & known) == 0) ++histogram[(key >> shift) & 0xffU];
    }
    std::uint32_t byte = 255;
    while (histogram[byte] < found.equal) found.equal -= histogram[byte--];
    found.key |= byte << shift;
  }
  return found;
}

}  // namespace

void CpuDevice::top_k(const View& scores, std::int64_t count, std::int64_t first,
                      std::int64_t recent, const View& out) {
  const std::int64_t columns = scores.shape[1];
  assert(first >= 0 && recent >= 0 && first + recent <= count && count <= columns);
  const std::int64_t chosen = count - first - recent;
  parallel_for(threads_for(scores.rows() * columns), scores.rows(), [&](std::int64_t row, int) {
    const float* score = scores.row<float>(row);
    auto* to = out.row<std::int32_t>(row);
    for (std::int64_t j = 0; j < first; ++j) *to++ = static_cast<std::int32_t>(j);
    if (chosen > 0) {
      Threshold threshold = find_threshold(score + first, columns - first - recent, chosen);
      for (std::int64_t j = first; j < columns - recent; ++j) {
        const std::uint32_t key = order_key(score[j]);
        if (key > threshold.key || (key == threshold.key && threshold.equal-- > 0)) {
          *to++ = static_cast<std::int32_t>(j);
        }
      }
    }
    for (std::int64_t j = columns - recent; j < columns; ++j) *to++ = static_cast<std::int32_t>(j);
    assert(to == out.row<std::int32_t>(row) + count);
  });
}

}  // namespace fastkv
