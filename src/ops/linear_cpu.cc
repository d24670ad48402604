// Linear layers. Many rows go through oneDNN: the output is cut into tiles by its shape alone and
// each tile is one call on one thread, because a split by the number of threads would make results
// depend on it. Few rows, as in decoding, are bound by reading the weight and have own kernels.

#include <algorithm>
#include <cassert>

#include "ops/cpu_device.h"
#include "ops/gemm.h"
#include "ops/linear_kernels.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

/// A block of the output: rows of x by rows of one part of the weight.
struct Tile {
  std::int64_t first_row, rows;
  int part;
  std::int64_t first_column, columns;  // within the part
  std::int64_t out_column;
};

struct TileSize {
  std::int64_t rows, columns;
};

/// Large tiles let oneDNN's packing amortise, small ones keep many cores busy. On two Zen 3 cores
/// tiles of 1024 x 1024, 512 and 256 reach 99, 95 and 89 % of one large product.
TileSize tile_size(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t wanted_tiles = 16;
  TileSize size{.rows = 1024, .columns = 1024};
  const auto count = [&] {
    return ((rows + size.rows - 1) / size.rows) * ((columns + size.columns - 1) / size.columns);
  };
  while (size.columns > 64 && count() < wanted_tiles) size.columns /= 2;
  return size;
}

std::vector<Tile> cut(std::int64_t rows, const Matrix& weight, TileSize size) {
  std::vector<Tile> tiles;
  std::int64_t out_column = 0;
  for (int p = 0; p < weight.parts; ++p) {
    const std::int64_t columns = weight.part[static_cast<std::size_t>(p)].rows();
    for (std::int64_t c = 0; c < columns; c += size.columns) {
      for (std::int64_t r = 0; r < rows; r += size.rows) {
        tiles.push_back({.first_row = r,
                         .rows = std::min(size.rows, rows - r),
                         .part = p,
                         .first_column = c,
                         .columns = std::min(size.columns, columns - c),
                         .out_column = out_column + c});
      }
    }
    out_column += columns;
  }
  return tiles;
}

const View& part_of(const Matrix& weight, const Tile& tile) {
  return weight.part[static_cast<std::size_t>(tile.part)];
}

GemmShape shape_of(const Tile& tile, std::int64_t depth) {
  return {.rows = tile.rows, .columns = tile.columns, .depth = depth};
}

/// Parts that are bfloat16 where the processor multiplies it.
bool all_bf16(const Matrix& weight) {
  return std::all_of(weight.part.begin(), weight.part.begin() + weight.parts,
                     [](const View& part) { return part.type == DType::bf16; });
}

void few_rows(const View& x, const Matrix& weight, const View& out, bool accumulate, int threads) {
  // A task must be worth starting, and there must be enough of them to share evenly.
  constexpr std::int64_t task_columns = 32;
  const std::vector<Tile> tiles =
      cut(x.rows(), weight, {.rows = max_few_rows, .columns = task_columns});
  parallel_for(threads, static_cast<std::int64_t>(tiles.size()), [&](std::int64_t i, int) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    const View& part = part_of(weight, tile);
    multiply_few_rows({.x = x.as<float>(),
                       .x_stride = x.row_stride,
                       .rows = x.rows(),
                       .depth = weight.columns(),
                       .w = part.row_bytes(tile.first_column),
                       .w_stride = part.row_stride,
                       .type = part.type,
                       .columns = tile.columns,
                       .out = out.as<float>() + tile.out_column,
                       .out_stride = out.row_stride,
                       .accumulate = accumulate});
  });
}

/// Weights are turned into float32 a tile at a time.
void many_rows(const View& x, const Matrix& weight, const View& out, bool accumulate, int threads,
               std::span<const Tile> tiles, std::span<Scratch> scratch) {
  const std::int64_t depth = weight.columns();
  parallel_for(threads, static_cast<std::int64_t>(tiles.size()), [&](std::int64_t i, int thread) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    const View& part = part_of(weight, tile);
    const auto* w = reinterpret_cast<const float*>(part.row_bytes(tile.first_column));
    std::int64_t w_stride = part.row_stride;
    if (part.type != DType::f32) {
      auto* converted = scratch[static_cast<std::size_t>(thread)].reserve_array<float>(
          static_cast<std::size_t>(tile.columns * depth));
      for (std::int64_t row = 0; row < tile.columns; ++row) {
        convert_to_float(part.row_bytes(tile.first_column + row), part.type, depth,
                         converted + row * depth);
      }
      w = converted;
      w_stride = depth;
    }
    gemm_f32(shape_of(tile, depth), x.row<float>(tile.first_row), x.row_stride, w, w_stride,
             accumulate, out.row<float>(tile.first_row) + tile.out_column, out.row_stride);
  });
}

/// Weights are used where they lie, and x is turned into bfloat16: (rows, depth) in `converted`.
void many_rows_bf16(const View& x, const Matrix& weight, const View& out, bool accumulate,
                    int threads, std::span<const Tile> tiles, std::uint16_t* converted) {
  const std::int64_t depth = weight.columns();
  parallel_for(threads, x.rows(), [&](std::int64_t row, int) {
    convert_to_bf16(x.row<float>(row), depth, converted + row * depth);
  });
  parallel_for(threads, static_cast<std::int64_t>(tiles.size()), [&](std::int64_t i, int) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    const View& part = part_of(weight, tile);
    gemm_bf16(shape_of(tile, depth), converted + tile.first_row * depth, depth,
              part.row<std::uint16_t>(tile.first_column), part.row_stride, accumulate,
              out.row<float>(tile.first_row) + tile.out_column, out.row_stride);
  });
}

}  // namespace

void CpuDevice::linear(const View& x, const Matrix& weight, const View& out, Store store) {
  const std::int64_t depth = weight.columns();
  assert(x.shape[1] == depth && out.shape[1] == weight.rows() && out.rows() == x.rows());
  const bool accumulate = store == Store::accumulate;
  if (x.rows() <= max_few_rows) {
    few_rows(x, weight, out, accumulate, threads_for(weight.rows() * depth));
    return;
  }
  const TileSize size = tile_size(x.rows(), weight.rows());
  const std::vector<Tile> tiles = cut(x.rows(), weight, size);
  if (fast_bf16_ && all_bf16(weight) && has_bf16_gemm()) {
    many_rows_bf16(
        x, weight, out, accumulate, threads_, tiles,
        shared_scratch_.reserve_array<std::uint16_t>(static_cast<std::size_t>(x.rows() * depth)));
  } else {
    const auto bytes = static_cast<std::size_t>(size.columns * depth) * sizeof(float);
    many_rows(x, weight, out, accumulate, threads_, tiles, thread_scratch(bytes));
  }
}

}  // namespace fastkv
