#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/cpu_device.h"
#include "ops/parallel.h"

namespace fastkv {

void CpuDevice::column_sums(const ColumnSumArgs& args) {
  const std::int64_t tokens = args.q.rows();
  const std::int64_t dim = args.q.shape[2];
  const std::int64_t group = args.q.shape[1] / args.k.shape[1];
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  const auto* positions = args.positions.as<std::int32_t>();
  parallel_for(threads_, args.q.shape[1], [&](std::int64_t head, int) {
    float* out = args.out.row<float>(head);
    std::vector<double> sums(static_cast<std::size_t>(tokens));
    std::vector<float> logits(static_cast<std::size_t>(tokens));
    for (std::int64_t i = 0; i < args.rows; ++i) {
      const std::int64_t row = tokens - args.rows + i;
      const float* q = args.q.row<float>(row) + head * dim;
      float highest = -std::numeric_limits<float>::infinity();
      for (std::int64_t j = 0; j <= row; ++j) {
        const float* k = args.k.row<float>(j) + head / group * dim;
        float dot = 0;
        for (std::int64_t d = 0; d < dim; ++d) dot += q[d] * k[d];
        const bool seen =
            args.sliding_window == 0 || positions[j] > positions[row] - args.sliding_window;
        float& logit = logits[static_cast<std::size_t>(j)];
        logit = seen ? dot * scale : -std::numeric_limits<float>::infinity();
        highest = std::max(highest, logit);
      }
      double sum = 0;
      for (std::int64_t j = 0; j <= row; ++j)
        sum += std::exp(logits[static_cast<std::size_t>(j)] - highest);
      const float weight =
          args.row_weights.empty() ? 1 : args.row_weights[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j <= row; ++j) {
        const auto column = static_cast<std::size_t>(j);
        sums[column] += weight * std::exp(logits[column] - highest) / sum;
      }
    }
    for (std::int64_t j = 0; j < tokens; ++j) {
      out[j] = static_cast<float>(sums[static_cast<std::size_t>(j)]);
    }
  });
}

}  // namespace fastkv
