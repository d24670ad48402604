#pragma once

#include <cstdint>

#include "ops/device.h"

// The inner loops of attention and column sums, compiled for each instruction set. Queries are
// taken in tiles of up to query_rows rows of one head, keys in packed blocks of block_keys.
// Logits are kept in base 2: queries are scaled by log2(e) / sqrt(D) on the way into a tile.

namespace fastkv {

constexpr std::int64_t block_keys = 128;
constexpr std::int64_t query_rows = 48;  // a multiple of every instruction set's tile_rows

/// A row of V is padded so that every instruction set's tile divides it.
constexpr std::int64_t padded_dim(std::int64_t dim) { return (dim + 31) / 32 * 32; }
/// Floats of a packed block: keys transposed in panels, then (optionally) values in panels.
constexpr std::int64_t packed_keys_size(std::int64_t dim) { return block_keys * dim; }
constexpr std::int64_t packed_values_size(std::int64_t dim) { return block_keys * padded_dim(dim); }

/// One head of a cached layer.
struct CachedHead {
  const std::byte* const* pages = nullptr;
  std::int64_t length = 0;
};
inline CachedHead head_of(const CachedLayer& layer, std::int64_t head) {
  return {layer.pages + head * layer.page_capacity, layer.lengths[head]};
}

/// Where the keys and values of one cached head and of the rows of its segment are: entry e is
/// cached for e < cached.length, and row e - cached.length of k and v after that.
struct KeySource {
  CachedHead cached;
  const PageLayout* layout = nullptr;
  const float* k = nullptr;  // (rows, D) of row stride k_stride
  const float* v = nullptr;  // (rows, D) of row stride v_stride; may be null
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
  std::int64_t length = 0;  // entries in all
  std::int64_t dim = 0;
};

/// Packs entries [first, first + block_keys) of `source`, zeros behind its end.
/// packed (packed_keys_size), then (packed_values_size) unless source.v is null
void pack_block(const KeySource& source, std::int64_t first, float* packed);

/// Queries of one head and the softmax over the keys they have met.
struct QueryTile {
  float* q = nullptr;                   // (query_rows, D), scaled; rows behind `rows` are zeros
  float* out = nullptr;                 // (query_rows, padded_dim): sum of p v relative to max
  float* max = nullptr;                 // (query_rows), base 2
  float* sum = nullptr;                 // (query_rows): sum of p relative to max
  float* logits = nullptr;              // (query_rows, block_keys) scratch
  float* factor = nullptr;              // (query_rows) scratch
  const std::int64_t* begin = nullptr;  // (query_rows): row i sees keys [begin[i], end[i])
  const std::int64_t* end = nullptr;
  std::int64_t rows = 0;
  std::int64_t dim = 0;
};

/// Copies and scales rows of q (rows, D) into the tile and resets its softmax.
void start_tile(const QueryTile& tile, const float* q, std::int64_t q_stride);

/// Takes a packed block, whose first key is number `first_key`, into the tile's softmax; into
/// max and sum only where `with_values` is false.
void attend_block(const QueryTile& tile, const float* packed, std::int64_t first_key,
                  bool with_values);

/// Adds weight[i] * 2^(logit[i, j] - log_sum[i]) of the tile's rows to sums[j].
/// weight, log_sum (query_rows), base 2; sums (block_keys) double
void add_columns(const QueryTile& tile, const float* packed, std::int64_t first_key,
                 const float* weight, const float* log_sum, double* sums);

/// Few queries against keys where they lie, read once: what decoding needs.
struct DecodeTile {
  const float* q = nullptr;             // (rows, D), scaled
  float* out = nullptr;                 // (rows, D): sum of p v relative to max
  float* max = nullptr;                 // (rows), base 2
  float* sum = nullptr;                 // (rows)
  const std::int64_t* begin = nullptr;  // (rows): row i sees keys [begin[i], end[i])
  const std::int64_t* end = nullptr;
  std::int64_t rows = 0;
  std::int64_t dim = 0;  // a multiple of decode_dim_step
};
constexpr std::int64_t decode_dim_step = 16;
constexpr std::int64_t max_decode_keys = 64;

/// Keys and values (count, D) of `type`, at most max_decode_keys of them; the first is key number
/// `first_key`. `next_keys` is where the keys of a following call will be: they are prefetched.
struct KeyRun {
  const void* keys = nullptr;
  std::int64_t key_stride = 0;
  const void* values = nullptr;
  std::int64_t value_stride = 0;
  DType type = DType::f32;
  std::int64_t first_key = 0;
  std::int64_t count = 0;
  const void* next_keys = nullptr;  // may be null
};
void attend_few(const DecodeTile& tile, const KeyRun& run);

}  // namespace fastkv
