// Attention of many queries. Units are taken in batches whose packed keys and values fit a fixed
// amount of memory; in a batch first all blocks are packed, then tiles of queries walk over the
// blocks that they see.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/attention_parts_cpu.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

constexpr std::size_t batch_bytes = std::size_t{64} << 20;

std::int64_t blocks_of(const AttentionUnit& unit) {
  return (unit.source.length + block_keys - 1) / block_keys;
}

std::int64_t packed_size(std::int64_t dim) {
  return packed_keys_size(dim) + packed_values_size(dim);
}

/// Tiles of one head that a task takes through the key blocks together with those of the unit's
/// other heads: the more rows meet a block while it is in the cache, the less often it is fetched.
std::int64_t tiles_of_head(const AttentionUnit& unit) {
  return std::max<std::int64_t>(1, 4 / unit.heads);
}

struct Task {
  const AttentionUnit* unit;
  const float* packed;     // (blocks of the unit, packed_size)
  std::int64_t first_row;  // in the segment
};

/// Memory of one task, cut out of one buffer.
struct Workspace {
  explicit Workspace(const AttentionUnit& unit) : dim(unit.source.dim) {
    tiles = unit.heads * tiles_of_head(unit);
  }
  std::int64_t tile_size() const { return query_rows * (dim + padded_dim(dim) + 2); }
  std::size_t bytes() const {
    return sizeof(float) *
               static_cast<std::size_t>(tiles * tile_size() + query_rows * (block_keys + 1)) +
           sizeof(std::int64_t) * 2 * static_cast<std::size_t>(tiles * query_rows);
  }
  std::int64_t dim;
  std::int64_t tiles;
};

void finish_tile(const AttentionArgs& args, const QueryTile& tile, std::int64_t row,
                 std::int64_t head) {
  const std::int64_t dim = tile.dim;
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const float* from = tile.out + i * padded_dim(dim);
    float* to = args.out.row<float>(row + i) + head * dim;
    const float scale = 1 / tile.sum[i];
    for (std::int64_t d = 0; d < dim; ++d) to[d] = from[d] * scale;
    if (args.log_sum_exp) {
      args.log_sum_exp.row<float>(row + i)[head] =
          (tile.max[i] + std::log2(tile.sum[i])) * std::numbers::ln2_v<float>;
    }
  }
}

void run(const AttentionArgs& args, const Task& task, Scratch& scratch) {
  const AttentionUnit& unit = *task.unit;
  const Workspace workspace(unit);
  auto* memory = static_cast<float*>(scratch.reserve(workspace.bytes()));
  const std::int64_t dim = workspace.dim;

  std::vector<QueryTile> tiles(static_cast<std::size_t>(workspace.tiles));
  float* logits = memory + workspace.tiles * workspace.tile_size();
  auto* bounds = reinterpret_cast<std::int64_t*>(logits + query_rows * (block_keys + 1));
  const std::int64_t parts = tiles_of_head(unit);
  std::int64_t first_key = unit.source.length, end_key = 0;
  for (std::int64_t t = 0; t < workspace.tiles; ++t) {
    QueryTile& tile = tiles[static_cast<std::size_t>(t)];
    tile.q = memory + t * workspace.tile_size();
    tile.out = tile.q + query_rows * dim;
    tile.max = tile.out + query_rows * padded_dim(dim);
    tile.sum = tile.max + query_rows;
    tile.logits = logits;
    tile.factor = logits + query_rows * block_keys;
    tile.dim = dim;
    const std::int64_t row = task.first_row + t % parts * query_rows;
    tile.rows = std::clamp<std::int64_t>(unit.segment->rows - row, 0, query_rows);
    if (tile.rows == 0) continue;
    std::int64_t* begin = bounds + t * 2 * query_rows;
    std::int64_t* end = begin + query_rows;
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      begin[i] = first_visible(args, unit, row + i);
      end[i] = unit.end_of(row + i);
    }
    tile.begin = begin;
    tile.end = end;
    first_key = std::min(first_key, begin[0]);
    end_key = std::max(end_key, end[tile.rows - 1]);
    start_tile(
        tile,
        args.q.row<float>(unit.segment->first_row + row) + (unit.first_head + t / parts) * dim,
        args.q.row_stride);
  }

  for (std::int64_t block = first_key / block_keys; block * block_keys < end_key; ++block) {
    const float* packed = task.packed + block * packed_size(dim);
    for (const QueryTile& tile : tiles) {
      if (tile.rows > 0) attend_block(tile, packed, block * block_keys, /*with_values=*/true);
    }
  }
  for (std::int64_t t = 0; t < workspace.tiles; ++t) {
    finish_tile(args, tiles[static_cast<std::size_t>(t)],
                unit.segment->first_row + task.first_row + t % parts * query_rows,
                unit.first_head + t / parts);
  }
}

}  // namespace

void attend_prompt(const AttentionArgs& args, std::span<const AttentionUnit> units, int threads,
                   Scratch& shared, std::span<Scratch> per_thread) {
  std::size_t workspace = 0;
  for (const AttentionUnit& unit : units) workspace = std::max(workspace, Workspace(unit).bytes());
  for (Scratch& scratch : per_thread) scratch.reserve(workspace);

  const std::int64_t block_size = packed_size(args.q.shape[2]);
  for (std::size_t next = 0; next < units.size();) {
    std::size_t end = next;
    std::int64_t blocks = 0;
    do {
      blocks += blocks_of(units[end++]);
    } while (end < units.size() &&
             static_cast<std::size_t>((blocks + blocks_of(units[end])) * block_size) *
                     sizeof(float) <=
                 batch_bytes);
    const auto batch = units.subspan(next, end - next);
    next = end;

    auto* packed = shared.reserve_array<float>(static_cast<std::size_t>(blocks * block_size));
    struct Packing {
      const AttentionUnit* unit;
      std::int64_t block;
    };
    std::vector<Packing> packings;
    std::vector<Task> tasks;
    for (const AttentionUnit& unit : batch) {
      const float* first = packed + static_cast<std::int64_t>(packings.size()) * block_size;
      for (std::int64_t b = 0; b < blocks_of(unit); ++b) packings.push_back({&unit, b});
      const std::int64_t step = query_rows * tiles_of_head(unit);
      for (std::int64_t row = 0; row < unit.segment->rows; row += step)
        tasks.push_back({&unit, first, row});
    }
    parallel_for(threads, blocks, [&](std::int64_t i, int) {
      const Packing& packing = packings[static_cast<std::size_t>(i)];
      pack_block(packing.unit->source, packing.block * block_keys, packed + i * block_size);
    });
    // Late rows see the most keys: with those first, threads end at about the same time.
    std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
      return a.unit->end_of(a.first_row) > b.unit->end_of(b.first_row);
    });
    parallel_for(threads, static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i, int thread) {
      run(args, tasks[static_cast<std::size_t>(i)], per_thread[static_cast<std::size_t>(thread)]);
    });
  }
}

}  // namespace fastkv
