// Column sums of attention probabilities in two steps: each query's softmax denominator (given by
// attention(), or computed here), then, for every span of keys, the sum over the queries that see
// them. Logits are computed block by block and never stored, so memory is linear in tokens.

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "ops/attention_kernels.h"
#include "ops/cpu_device.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

constexpr std::int64_t span_blocks = 4;  // key blocks a task packs and keeps
constexpr std::int64_t span_keys = span_blocks * block_keys;
constexpr std::int64_t group_rows = 1024;  // queries whose partial softmaxes are kept at once

/// One call, with its shapes and the range of keys that each query sees.
struct Call {
  explicit Call(const ColumnSumArgs& given)
      : args(given),
        tokens(given.q.rows()),
        query_heads(given.q.shape[1]),
        kv_heads(given.k.shape[1]),
        dim(given.q.shape[2]),
        first_row(tokens - given.rows),
        spans((tokens + span_keys - 1) / span_keys) {
    const auto* positions = args.positions.as<std::int32_t>();
    std::int64_t oldest = 0;
    for (std::int64_t i = 0; i < given.rows; ++i) {
      const std::int64_t row = first_row + i;
      if (args.sliding_window > 0) {
        while (positions[oldest] <= positions[row] - args.sliding_window) ++oldest;
      }
      begin.push_back(oldest);
      end.push_back(row + 1);
    }
  }
  std::int64_t group() const { return query_heads / kv_heads; }

  const ColumnSumArgs& args;
  std::int64_t tokens, query_heads, kv_heads, dim, first_row, spans;
  std::vector<std::int64_t> begin, end;  // (rows)
};

/// Memory of one task: a packed span of keys and one tile of queries.
struct Workspace {
  static std::size_t bytes(std::int64_t dim) {
    return sizeof(float) * static_cast<std::size_t>(span_blocks * packed_keys_size(dim) +
                                                    query_rows * (dim + block_keys + 3));
  }
  Workspace(Scratch& scratch, std::int64_t dim) {
    packed = static_cast<float*>(scratch.reserve(bytes(dim)));
    tile.dim = dim;
    tile.q = packed + span_blocks * packed_keys_size(dim);
    tile.logits = tile.q + query_rows * dim;
    tile.max = tile.logits + query_rows * block_keys;
    tile.sum = tile.max + query_rows;
    tile.factor = tile.sum + query_rows;
  }
  float* packed;
  QueryTile tile;
};

void pack_span(const Call& call, std::int64_t kv_head, std::int64_t first_key, float* packed) {
  KeySource source;
  source.k = call.args.k.as<float>() + kv_head * call.dim;
  source.k_stride = call.args.k.row_stride;
  source.length = call.tokens;
  source.dim = call.dim;
  for (std::int64_t b = 0; b < span_blocks && first_key + b * block_keys < call.tokens; ++b) {
    pack_block(source, first_key + b * block_keys, packed + b * packed_keys_size(call.dim));
  }
}

/// Makes rows [row, row + up to query_rows) of those asked for, up to `end_row`, the tile's;
/// false if they see no key of the span.
bool take_rows(const Call& call, std::int64_t row, std::int64_t end_row, std::int64_t first_key,
               std::int64_t head, QueryTile& tile) {
  tile.rows = std::min(query_rows, end_row - row);
  tile.begin = &call.begin[static_cast<std::size_t>(row)];
  tile.end = &call.end[static_cast<std::size_t>(row)];
  if (tile.end[tile.rows - 1] <= first_key || tile.begin[0] >= first_key + span_keys) return false;
  start_tile(tile, call.args.q.row<float>(call.first_row + row) + head * call.dim,
             call.args.q.row_stride);
  return true;
}

/// Partial softmaxes of the rows in work: (Hq, spans, min(rows, group_rows), max and sum).
std::int64_t partial_size(const Call& call) {
  return call.query_heads * call.spans * std::min(call.args.rows, group_rows) * 2;
}

/// log_sum (Hq, rows): log of the softmax denominators, base 2; partial (partial_size) scratch.
void compute_log_sums(const Call& call, int threads, std::span<Scratch> scratch, float* partial,
                      float* log_sum) {
  const std::int64_t rows = call.args.rows;
  const std::int64_t kept = std::min(rows, group_rows);
  const auto of = [&](std::int64_t head, std::int64_t span) {
    return partial + (head * call.spans + span) * kept * 2;
  };
  for (std::int64_t first = 0; first < rows; first += kept) {
    const std::int64_t last = std::min(first + kept, rows);
    parallel_for(threads, call.kv_heads * call.spans, [&](std::int64_t task, int thread) {
      const std::int64_t kv_head = task / call.spans, span = task % call.spans;
      const std::int64_t first_key = span * span_keys;
      Workspace workspace(scratch[static_cast<std::size_t>(thread)], call.dim);
      QueryTile& tile = workspace.tile;
      pack_span(call, kv_head, first_key, workspace.packed);
      for (std::int64_t head = kv_head * call.group(); head < (kv_head + 1) * call.group();
           ++head) {
        float* to = of(head, span);
        for (std::int64_t row = first; row < last; row += query_rows) {
          const bool seen = take_rows(call, row, last, first_key, head, tile);
          for (std::int64_t b = 0; seen && b < span_blocks; ++b) {
            if (first_key + b * block_keys >= call.tokens) break;
            attend_block(tile, workspace.packed + b * packed_keys_size(call.dim),
                         first_key + b * block_keys, /*with_values=*/false);
          }
          for (std::int64_t i = 0; i < tile.rows; ++i) {
            *to++ = seen ? tile.max[i] : -std::numeric_limits<float>::infinity();
            *to++ = seen ? tile.sum[i] : 0;
          }
        }
      }
    });
    parallel_for(threads, call.query_heads, [&](std::int64_t head, int) {
      for (std::int64_t i = 0; i < last - first; ++i) {
        float max = -std::numeric_limits<float>::infinity();
        for (std::int64_t s = 0; s < call.spans; ++s) max = std::max(max, of(head, s)[2 * i]);
        float sum = 0;
        for (std::int64_t s = 0; s < call.spans; ++s) {
          const float* state = of(head, s) + 2 * i;
          if (state[1] > 0) sum += state[1] * std::exp2(state[0] - max);
        }
        log_sum[head * rows + first + i] = max + std::log2(sum);
      }
    });
  }
}

void take_given_log_sums(const Call& call, float* log_sum) {
  for (std::int64_t i = 0; i < call.args.rows; ++i) {
    const float* given = call.args.log_sum_exp.row<float>(call.first_row + i);
    for (std::int64_t head = 0; head < call.query_heads; ++head)
      log_sum[head * call.args.rows + i] = given[head] * std::numbers::log2e_v<float>;
  }
}

}  // namespace

void CpuDevice::column_sums(const ColumnSumArgs& args) {
  assert(args.rows >= 0 && args.rows <= args.q.rows());
  const Call call(args);
  const auto scratch = thread_scratch(Workspace::bytes(call.dim));
  const bool given = static_cast<bool>(args.log_sum_exp);
  const std::int64_t log_sum_size = call.query_heads * args.rows;
  auto* log_sum = shared_scratch_.reserve_array<float>(
      static_cast<std::size_t>(log_sum_size + (given ? 0 : partial_size(call))));
  if (given) {
    take_given_log_sums(call, log_sum);
  } else {
    compute_log_sums(call, threads_, scratch, /*partial=*/log_sum + log_sum_size, log_sum);
  }
  std::vector<float> weights(args.row_weights.begin(), args.row_weights.end());
  if (weights.empty()) weights.assign(static_cast<std::size_t>(args.rows), 1.0F);

  parallel_for(threads_, call.kv_heads * call.spans, [&](std::int64_t task, int thread) {
    // Early keys are seen by the most queries, and come first: (span, head).
    const std::int64_t span = task / call.kv_heads, kv_head = task % call.kv_heads;
    const std::int64_t first_key = span * span_keys;
    Workspace workspace(scratch[static_cast<std::size_t>(thread)], call.dim);
    pack_span(call, kv_head, first_key, workspace.packed);
    for (std::int64_t head = kv_head * call.group(); head < (kv_head + 1) * call.group(); ++head) {
      double sums[span_keys] = {};
      for (std::int64_t row = 0; row < args.rows; row += query_rows) {
        if (!take_rows(call, row, args.rows, first_key, head, workspace.tile)) continue;
        for (std::int64_t b = 0; b < span_blocks; ++b) {
          if (first_key + b * block_keys >= call.tokens) break;
          add_columns(workspace.tile, workspace.packed + b * packed_keys_size(call.dim),
                      first_key + b * block_keys, weights.data() + row,
                      log_sum + head * args.rows + row, sums + b * block_keys);
        }
      }
      float* out = args.out.row<float>(head) + first_key;
      const std::int64_t count = std::min(span_keys, call.tokens - first_key);
      for (std::int64_t j = 0; j < count; ++j) out[j] = static_cast<float>(sums[j]);
    }
  });
}

}  // namespace fastkv
