// Linear layers through oneDNN. The output is cut into tiles by its shape alone and each tile is
// one call on one thread, because a split by the number of threads would make results depend on it.

#include <algorithm>
#include <cassert>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#include "ops/convert.h"
#include "ops/cpu_device.h"
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

std::vector<Tile> cut(std::int64_t rows, const Matrix& weight) {
  // Large enough for oneDNN's packing to pay, small enough to keep many cores busy.
  constexpr std::int64_t tile_rows = 1024;
  constexpr std::int64_t tile_columns = 512;
  std::vector<Tile> tiles;
  std::int64_t out_column = 0;
  for (int p = 0; p < weight.parts; ++p) {
    const std::int64_t columns = weight.part[static_cast<std::size_t>(p)].rows();
    for (std::int64_t c = 0; c < columns; c += tile_columns) {
      for (std::int64_t r = 0; r < rows; r += tile_rows) {
        tiles.push_back({r, std::min(tile_rows, rows - r), p, c,
                         std::min(tile_columns, columns - c), out_column + c});
      }
    }
    out_column += columns;
  }
  return tiles;
}

void check(dnnl_status_t status) {
  assert(status == dnnl_success);
  static_cast<void>(status);
}

}  // namespace

void CpuDevice::linear(const View& x, const Matrix& weight, const View& out, Store store) {
  const std::int64_t depth = weight.columns();
  assert(x.shape[1] == depth && out.shape[1] == weight.rows() && out.rows() == x.rows());
  const std::vector<Tile> tiles = cut(x.rows(), weight);
  const auto scratch = thread_scratch(static_cast<std::size_t>(512 * depth) * sizeof(float));
  parallel_for(threads_, static_cast<std::int64_t>(tiles.size()), [&](std::int64_t i, int thread) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    const View& part = weight.part[static_cast<std::size_t>(tile.part)];
    const float* w = nullptr;
    std::int64_t w_stride = depth;
    if (part.type == DType::f32) {
      w = part.row<float>(tile.first_column);
      w_stride = part.row_stride;
    } else {
      auto* converted = scratch[static_cast<std::size_t>(thread)].reserve_array<float>(0);
      for (std::int64_t r = 0; r < tile.columns; ++r) {
        const std::byte* row = part.row_bytes(tile.first_column + r);
        for (std::int64_t k = 0; k < depth; ++k) {
          converted[r * depth + k] = load_float(row, part.type, k);
        }
      }
      w = converted;
    }
    check(dnnl_sgemm('N', 'T', tile.rows, tile.columns, depth, 1.0F, x.row<float>(tile.first_row),
                     x.row_stride, w, w_stride, store == Store::accumulate ? 1.0F : 0.0F,
                     out.row<float>(tile.first_row) + tile.out_column, out.row_stride));
  });
}

}  // namespace fastkv
