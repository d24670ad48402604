// Attention of few queries. Every unit's keys are split into chunks of a fixed length, so that one
// long sequence keeps all threads busy; each chunk gives a partial softmax, (out, max, sum), and
// the partial ones are merged in order.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "ops/attention_parts_cpu.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

constexpr std::int64_t chunk_keys = 512;

/// Cached chunks, then one of the segment's own rows.
std::int64_t chunks_of(const AttentionUnit& unit) {
  return (unit.source.cached.length + chunk_keys - 1) / chunk_keys + 1;
}

/// A partial softmax of all rows of a unit: out (rows, D), max (rows), sum (rows).
std::int64_t partial_size(const AttentionUnit& unit) {
  return unit.segment->rows * unit.heads * (unit.source.dim + 2);
}

struct Task {
  const AttentionUnit* unit;
  std::int64_t chunk;
  const float* q;  // (heads * rows, D), scaled
  float* partial;
};

/// Rows of a unit are (head, row of the segment).
DecodeTile tile_of(const Task& task) {
  const std::int64_t rows = task.unit->segment->rows * task.unit->heads;
  DecodeTile tile;
  tile.rows = rows;
  tile.dim = task.unit->source.dim;
  tile.q = task.q;
  tile.out = task.partial;
  tile.max = tile.out + rows * tile.dim;
  tile.sum = tile.max + rows;
  return tile;
}

void run(const AttentionArgs& args, const Task& task) {
  const AttentionUnit& unit = *task.unit;
  const KeySource& source = unit.source;
  DecodeTile tile = tile_of(task);
  std::fill_n(tile.out, tile.rows * tile.dim, 0.0F);
  std::fill_n(tile.max, tile.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(tile.sum, tile.rows, 0.0F);

  std::vector<std::int64_t> begin(static_cast<std::size_t>(tile.rows)), end(begin);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const std::int64_t row = i % unit.segment->rows;
    begin[static_cast<std::size_t>(i)] = first_visible(args, unit, row);
    end[static_cast<std::size_t>(i)] = unit.end_of(row);
  }
  tile.begin = begin.data();
  tile.end = end.data();

  if (task.chunk + 1 == chunks_of(unit)) {
    attend_few(tile, {.keys = source.k,
                      .key_stride = source.k_stride,
                      .values = source.v,
                      .value_stride = source.v_stride,
                      .type = DType::f32,
                      .first_key = source.cached.length,
                      .count = unit.segment->rows});
    return;
  }
  const PageLayout& layout = args.layout;
  const std::int64_t first = task.chunk * chunk_keys;
  const std::int64_t last = std::min(first + chunk_keys, source.cached.length);
  const std::int64_t lowest = *std::min_element(begin.begin(), begin.end());
  for (std::int64_t entry = std::max(first, lowest); entry < last;) {
    const std::int64_t page_left = layout.page_tokens - entry % layout.page_tokens;
    const std::int64_t count = std::min({max_decode_keys, page_left, last - entry});
    const std::byte* key = cached_key(source, entry);
    const std::int64_t next = entry + count;
    attend_few(tile, {.keys = key,
                      .key_stride = tile.dim,
                      .values = key + layout.value_offset(),
                      .value_stride = tile.dim,
                      .type = layout.type,
                      .first_key = entry,
                      .count = count,
                      .next_keys = next < last ? cached_key(source, next) : nullptr});
    entry = next;
  }
}

/// Merges the partial softmaxes of a unit, which follow `first`, and writes its rows.
void merge(const AttentionArgs& args, const Task& first) {
  const AttentionUnit& unit = *first.unit;
  const std::int64_t dim = unit.source.dim;
  const std::int64_t chunks = chunks_of(unit);
  const std::int64_t step = partial_size(unit);
  const DecodeTile tile = tile_of(first);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const std::int64_t row = unit.segment->first_row + i % unit.segment->rows;
    const std::int64_t head = unit.first_head + i / unit.segment->rows;
    float max = -std::numeric_limits<float>::infinity();
    for (std::int64_t c = 0; c < chunks; ++c) max = std::max(max, tile.max[c * step + i]);
    float* out = args.out.row<float>(row) + head * dim;
    std::fill_n(out, dim, 0.0F);
    float sum = 0;
    for (std::int64_t c = 0; c < chunks; ++c) {
      const float weight = std::exp2(tile.max[c * step + i] - max);
      const float* part = tile.out + c * step + i * dim;
      sum += weight * tile.sum[c * step + i];
      for (std::int64_t d = 0; d < dim; ++d) out[d] += weight * part[d];
    }
    for (std::int64_t d = 0; d < dim; ++d) out[d] /= sum;
    if (args.log_sum_exp) {
      args.log_sum_exp.row<float>(row)[head] = (max + std::log2(sum)) * std::numbers::ln2_v<float>;
    }
  }
}

void scale_queries(const AttentionArgs& args, const AttentionUnit& unit, float* to) {
  const std::int64_t dim = unit.source.dim;
  const float scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(dim));
  for (std::int64_t head = 0; head < unit.heads; ++head) {
    for (std::int64_t row = 0; row < unit.segment->rows; ++row) {
      const float* q =
          args.q.row<float>(unit.segment->first_row + row) + (unit.first_head + head) * dim;
      for (std::int64_t d = 0; d < dim; ++d) *to++ = q[d] * scale;
    }
  }
}

}  // namespace

void attend_decode(const AttentionArgs& args, std::span<const AttentionUnit> units, int threads,
                   Scratch& shared) {
  std::int64_t size = 0;
  for (const AttentionUnit& unit : units) {
    size +=
        unit.segment->rows * unit.heads * unit.source.dim + chunks_of(unit) * partial_size(unit);
  }
  auto* memory = shared.reserve_array<float>(static_cast<std::size_t>(size));
  std::vector<Task> tasks;
  std::vector<std::size_t> first_task;  // of each unit
  for (const AttentionUnit& unit : units) {
    const float* q = memory;
    scale_queries(args, unit, memory);
    memory += unit.segment->rows * unit.heads * unit.source.dim;
    first_task.push_back(tasks.size());
    for (std::int64_t chunk = 0; chunk < chunks_of(unit); ++chunk) {
      tasks.push_back({&unit, chunk, q, memory});
      memory += partial_size(unit);
    }
  }
  parallel_for(threads, static_cast<std::int64_t>(tasks.size()),
               [&](std::int64_t i, int) { run(args, tasks[static_cast<std::size_t>(i)]); });
  parallel_for(threads, static_cast<std::int64_t>(units.size()), [&](std::int64_t i, int) {
    merge(args, tasks[first_task[static_cast<std::size_t>(i)]]);
  });
}

}  // namespace fastkv
