#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "ops/convert.h"
#include "ops/cpu_device.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

/// The state of one softmax over keys seen so far: (sum of p v, sum of p) relative to `max`.
struct Softmax {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;

  void add(float logit, const void* value, DType type, std::int64_t dim, float* out) {
    if (logit > max) {
      const float shrink = std::exp(max - logit);
      sum *= shrink;
      for (std::int64_t d = 0; d < dim; ++d) out[d] *= shrink;
      max = logit;
    }
    const float p = std::exp(logit - max);
    sum += p;
    for (std::int64_t d = 0; d < dim; ++d) out[d] += p * load_float(value, type, d);
  }
};

float dot(const float* q, const void* key, DType type, std::int64_t dim) {
  float sum = 0;
  for (std::int64_t d = 0; d < dim; ++d) sum += q[d] * load_float(key, type, d);
  return sum;
}

}  // namespace

void CpuDevice::attention(const AttentionArgs& args) {
  const std::int64_t query_heads = args.q.shape[1];
  const std::int64_t dim = args.q.shape[2];
  const std::int64_t group = query_heads / args.k.shape[1];
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  const auto* positions = args.positions.as<std::int32_t>();
  for (const AttentionSegment& segment : args.segments) {
    parallel_for(threads_, segment.rows * query_heads, [&](std::int64_t task, int) {
      const std::int64_t row = segment.first_row + task / query_heads;
      const std::int64_t head = task % query_heads;
      const std::int64_t oldest =
          args.sliding_window > 0 ? positions[row] - args.sliding_window + 1 : INT64_MIN;
      const float* q = args.q.row<float>(row) + head * dim;
      float* out = args.out.row<float>(row) + head * dim;
      std::fill_n(out, dim, 0.0F);
      Softmax softmax;
      if (!segment.cached.empty()) {
        const std::int64_t sharing = query_heads / static_cast<std::int64_t>(segment.cached.size());
        const CachedHead& cached = segment.cached[static_cast<std::size_t>(head / sharing)];
        const PageLayout& layout = args.layout;
        for (std::int64_t e = 0; e < cached.length; ++e) {
          const std::byte* page = cached.pages[e / layout.page_tokens];
          const std::int64_t slot = e % layout.page_tokens;
          if (reinterpret_cast<const std::int32_t*>(page + layout.position_offset())[slot] < oldest)
            continue;
          const std::byte* key = page + static_cast<std::size_t>(slot * dim) * size_of(layout.type);
          softmax.add(scale * dot(q, key, layout.type, dim), key + layout.value_offset(),
                      layout.type, dim, out);
        }
      }
      for (std::int64_t j = segment.first_row; j <= row; ++j) {
        if (positions[j] < oldest) continue;
        const std::int64_t column = head / group * dim;
        softmax.add(scale * dot(q, args.k.row<float>(j) + column, DType::f32, dim),
                    args.v.row<float>(j) + column, DType::f32, dim, out);
      }
      for (std::int64_t d = 0; d < dim; ++d) out[d] /= softmax.sum;
      if (args.log_sum_exp) {
        args.log_sum_exp.row<float>(row)[head] = softmax.max + std::log(softmax.sum);
      }
    });
  }
}

}  // namespace fastkv
