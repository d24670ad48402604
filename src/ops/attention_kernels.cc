#include "ops/attention_kernels.h"

#include "ops/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention_kernels.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/convert.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastkv::HWY_NAMESPACE {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

static_assert(query_rows % tile_rows == 0 && block_keys % tile_columns == 0);
static_assert(32 % tile_columns == 0 && decode_dim_step % lanes == 0);

// Packing

/// Keys of one block lie as panels (block_keys / tile_columns, D, tile_columns): a panel is what
/// multiply_tile() takes as B. Values as panels (padded_dim / tile_columns, block_keys,
/// tile_columns).
void pack_entry(const void* key, const void* value, DType type, std::int64_t dim, std::int64_t slot,
                float* packed) {
  float* column = packed + slot / tile_columns * (dim * tile_columns) + slot % tile_columns;
  for (std::int64_t d = 0; d < dim; ++d) column[d * tile_columns] = load_float(key, type, d);
  if (value == nullptr) return;
  float* panels = packed + packed_keys_size(dim) + slot * tile_columns;
  for (std::int64_t d = 0; d < dim; ++d) {
    panels[d / tile_columns * (block_keys * tile_columns) + d % tile_columns] =
        load_float(value, type, d);
  }
}

void pack_block(const KeySource& source, std::int64_t first, float* packed) {
  const std::int64_t dim = source.dim;
  const std::int64_t count = std::min(block_keys, source.length - first);
  const bool values = source.v != nullptr;
  if (count < block_keys || padded_dim(dim) != dim) {
    std::fill_n(packed, packed_keys_size(dim) + (values ? packed_values_size(dim) : 0), 0.0F);
  }
  for (std::int64_t slot = 0; slot < count; ++slot) {
    const std::int64_t entry = first + slot;
    if (entry < source.cached.length) {
      const PageLayout& layout = *source.layout;
      const std::byte* key =
          source.cached.pages[entry / layout.page_tokens] +
          static_cast<std::size_t>(entry % layout.page_tokens * dim) * size_of(layout.type);
      pack_entry(key, values ? key + layout.value_offset() : nullptr, layout.type, dim, slot,
                 packed);
    } else {
      const std::int64_t row = entry - source.cached.length;
      pack_entry(source.k + row * source.k_stride,
                 values ? source.v + row * source.v_stride : nullptr, DType::f32, dim, slot,
                 packed);
    }
  }
}

// Tiles of queries

void start_tile(const QueryTile& tile, const float* q, std::int64_t q_stride) {
  const float scale = 1.44269504F / std::sqrt(static_cast<float>(tile.dim));
  for (std::int64_t i = 0; i < query_rows; ++i) {
    float* to = tile.q + i * tile.dim;
    if (i < tile.rows) {
      for (std::int64_t d = 0; d < tile.dim; ++d) to[d] = q[i * q_stride + d] * scale;
    } else {
      std::fill_n(to, tile.dim, 0.0F);
    }
  }
  if (tile.max != nullptr) std::fill_n(tile.max, query_rows, minus_infinity);
  if (tile.sum != nullptr) std::fill_n(tile.sum, query_rows, 0.0F);
  if (tile.out != nullptr) std::fill_n(tile.out, query_rows * padded_dim(tile.dim), 0.0F);
}

/// Rows of the tile that must be computed: all of those in use and what fills their last tile.
HWY_INLINE std::int64_t computed_rows(const QueryTile& tile) {
  return (tile.rows + tile_rows - 1) / tile_rows * tile_rows;
}

/// How many columns of the block some row sees, in whole panels.
HWY_INLINE std::int64_t computed_columns(const QueryTile& tile, std::int64_t first_key) {
  const std::int64_t end = *std::max_element(tile.end, tile.end + tile.rows);
  const std::int64_t columns = std::clamp<std::int64_t>(end - first_key, 0, block_keys);
  return (columns + tile_columns - 1) / tile_columns * tile_columns;
}

/// Logits of the tile against the block, minus infinity where a row does not see a key.
HWY_INLINE void compute_logits(const QueryTile& tile, const float* packed, std::int64_t first_key,
                               std::int64_t columns) {
  const std::int64_t rows = computed_rows(tile);
  for (std::int64_t j = 0; j < columns; j += tile_columns) {
    for (std::int64_t i = 0; i < rows; i += tile_rows) {
      multiply_tile(tile.q + i * tile.dim, tile.dim, packed + j * tile.dim, tile.dim, nullptr,
                    tile.logits + i * block_keys + j, block_keys);
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    float* row = tile.logits + i * block_keys;
    const bool used = i < tile.rows;
    const std::int64_t begin =
        used ? std::clamp<std::int64_t>(tile.begin[i] - first_key, 0, columns) : columns;
    const std::int64_t end =
        used ? std::clamp<std::int64_t>(tile.end[i] - first_key, 0, columns) : columns;
    std::fill(row, row + begin, minus_infinity);
    if (end < columns) std::fill(row + end, row + columns, minus_infinity);
  }
}

HWY_INLINE float highest(const float* row, std::int64_t columns) {
  const Floats d;
  Vector m0 = hn::LoadU(d, row), m1 = hn::LoadU(d, row + lanes);
  for (std::int64_t j = tile_columns; j < columns; j += tile_columns) {
    m0 = hn::Max(m0, hn::LoadU(d, row + j));
    m1 = hn::Max(m1, hn::LoadU(d, row + j + lanes));
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
}

/// row = 2^(row - max); returns the sum.
HWY_INLINE float exponentiate(float* row, std::int64_t columns, float max) {
  const Floats d;
  const Vector shift = hn::Set(d, max);
  Vector s0 = hn::Zero(d), s1 = hn::Zero(d);
  for (std::int64_t j = 0; j < columns; j += tile_columns) {
    const Vector p0 = exp2(hn::Sub(hn::LoadU(d, row + j), shift));
    const Vector p1 = exp2(hn::Sub(hn::LoadU(d, row + j + lanes), shift));
    hn::StoreU(p0, d, row + j);
    hn::StoreU(p1, d, row + j + lanes);
    s0 = hn::Add(s0, p0);
    s1 = hn::Add(s1, p1);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

HWY_INLINE float exp2_of(float x) { return hn::GetLane(exp2(hn::Set(Floats(), x))); }

/// One step of the online softmax: `row` becomes probabilities relative to the new maximum; what
/// was summed before must be multiplied by the result.
HWY_INLINE float absorb(float* row, std::int64_t columns, float& max, float& sum) {
  const float above = std::max(max, highest(row, columns));
  if (above == minus_infinity) {  // nothing seen yet: a difference of infinities would be NaN
    std::fill_n(row, columns, 0.0F);
    return 1;
  }
  const float factor = exp2_of(max - above);
  sum = sum * factor + exponentiate(row, columns, above);
  max = above;
  return factor;
}

void attend_block(const QueryTile& tile, const float* packed, std::int64_t first_key,
                  bool with_values) {
  const std::int64_t columns = computed_columns(tile, first_key);
  if (columns == 0) return;
  compute_logits(tile, packed, first_key, columns);
  const std::int64_t rows = computed_rows(tile);
  for (std::int64_t i = 0; i < rows; ++i) {
    tile.factor[i] = absorb(tile.logits + i * block_keys, columns, tile.max[i], tile.sum[i]);
  }
  if (!with_values) return;
  const float* values = packed + packed_keys_size(tile.dim);
  const std::int64_t width = padded_dim(tile.dim);
  for (std::int64_t j = 0; j < width; j += tile_columns) {
    for (std::int64_t i = 0; i < rows; i += tile_rows) {
      multiply_tile(tile.logits + i * block_keys, block_keys, values + j * block_keys, columns,
                    tile.factor + i, tile.out + i * width + j, width);
    }
  }
}

void add_columns(const QueryTile& tile, const float* packed, std::int64_t first_key,
                 const float* weight, const float* log_sum, double* sums) {
  const std::int64_t columns = computed_columns(tile, first_key);
  if (columns == 0) return;
  compute_logits(tile, packed, first_key, columns);
  const Floats d;
  HWY_ALIGN float total[tile_columns];
  for (std::int64_t j = 0; j < columns; j += tile_columns) {
    Vector s0 = hn::Zero(d), s1 = hn::Zero(d);
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const float* row = tile.logits + i * block_keys + j;
      const Vector shift = hn::Set(d, log_sum[i]);
      const Vector w = hn::Set(d, weight[i]);
      s0 = hn::MulAdd(w, exp2_gradual(hn::Sub(hn::LoadU(d, row), shift)), s0);
      s1 = hn::MulAdd(w, exp2_gradual(hn::Sub(hn::LoadU(d, row + lanes), shift)), s1);
    }
    hn::Store(s0, d, total);
    hn::Store(s1, d, total + lanes);
    // A tile's sum is short; the long sum over all queries is taken in double.
    for (std::int64_t c = 0; c < tile_columns; ++c) sums[j + c] += double{total[c]};
  }
}

// Decoding: no packing, because each key meets only a few queries.

/// A run's arrays as numbers of their type.
template <class T>
struct TypedRun {
  explicit TypedRun(const KeyRun& run)
      : keys(static_cast<const T*>(run.keys)),
        values(static_cast<const T*>(run.values)),
        next_keys(static_cast<const T*>(run.next_keys == nullptr ? run.keys : run.next_keys)) {}
  const T* keys;
  const T* values;
  const T* next_keys;
};

/// Asks for a row of `dim` numbers that will be read soon.
template <class T>
HWY_INLINE void prefetch_row(const T* row, std::int64_t dim) {
  constexpr std::int64_t line = 64 / sizeof(T);
  for (std::int64_t d = 0; d < dim; d += line) hwy::Prefetch(row + d);
}

/// logits[i, e] = q[i] . keys[e] for `group` rows of q. Fetches the values meanwhile.
template <int group, class T>
HWY_INLINE void few_logits(const float* q, std::int64_t dim, const KeyRun& run, float* logits) {
  const Floats d;
  const TypedRun<T> typed(run);
  for (std::int64_t e = 0; e < run.count; ++e) {
    const T* key = typed.keys + e * run.key_stride;
    prefetch_row(typed.values + e * run.value_stride, dim);
    Vector sum[group];
    for (int i = 0; i < group; ++i) sum[i] = hn::Zero(d);
    for (std::int64_t k = 0; k < dim; k += lanes) {
      const Vector part = load(key + k);
#pragma GCC unroll 4
      for (int i = 0; i < group; ++i)
        sum[i] = hn::MulAdd(part, hn::LoadU(d, q + i * dim + k), sum[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < group; ++i)
      logits[i * max_decode_keys + e] = hn::GetLane(hn::SumOfLanes(d, sum[i]));
  }
}

/// Columns [k, k + width * lanes) of out[i] = factor[i] * out[i] + sum over e of p[i, e] values[e].
template <int group, int width, class T>
HWY_INLINE void few_value_columns(const float* p, const float* factor, const KeyRun& run,
                                  std::int64_t k, std::int64_t dim, float* out) {
  const Floats d;
  const TypedRun<T> typed(run);
  Vector sum[group][width];
  for (int i = 0; i < group; ++i)
    for (int w = 0; w < width; ++w)
      sum[i][w] = hn::Mul(hn::Set(d, factor[i]), hn::LoadU(d, out + i * dim + k + w * lanes));
  for (std::int64_t e = 0; e < run.count; ++e) {
    if (k == 0) prefetch_row(typed.next_keys + e * run.key_stride, dim);
    Vector part[width];
#pragma GCC unroll 4
    for (int w = 0; w < width; ++w)
      part[w] = load(typed.values + e * run.value_stride + k + w * lanes);
#pragma GCC unroll 4
    for (int i = 0; i < group; ++i) {
      const Vector weight = hn::Set(d, p[i * max_decode_keys + e]);
#pragma GCC unroll 4
      for (int w = 0; w < width; ++w) sum[i][w] = hn::MulAdd(weight, part[w], sum[i][w]);
    }
  }
  for (int i = 0; i < group; ++i)
    for (int w = 0; w < width; ++w) hn::StoreU(sum[i][w], d, out + i * dim + k + w * lanes);
}

template <int group, class T>
HWY_INLINE void attend_rows(const DecodeTile& tile, std::int64_t first_row, const KeyRun& run) {
  HWY_ALIGN float logits[group * max_decode_keys];
  float factor[group];
  const std::int64_t columns = (run.count + tile_columns - 1) / tile_columns * tile_columns;
  static_assert(max_decode_keys % tile_columns == 0);
  few_logits<group, T>(tile.q + first_row * tile.dim, tile.dim, run, logits);
  for (int i = 0; i < group; ++i) {
    const std::int64_t row = first_row + i;
    float* p = logits + i * max_decode_keys;
    const std::int64_t begin =
        std::clamp<std::int64_t>(tile.begin[row] - run.first_key, 0, run.count);
    const std::int64_t end = std::clamp<std::int64_t>(tile.end[row] - run.first_key, 0, run.count);
    std::fill(p, p + begin, minus_infinity);
    std::fill(p + end, p + columns, minus_infinity);
    factor[i] = absorb(p, columns, tile.max[row], tile.sum[row]);
  }
  float* out = tile.out + first_row * tile.dim;
  std::int64_t k = 0;
  for (; k + 2 * lanes <= tile.dim; k += 2 * lanes)
    few_value_columns<group, 2, T>(logits, factor, run, k, tile.dim, out);
  for (; k < tile.dim; k += lanes)
    few_value_columns<group, 1, T>(logits, factor, run, k, tile.dim, out);
}

template <class T>
void attend_few_typed(const DecodeTile& tile, const KeyRun& run) {
  std::int64_t row = 0;
  for (; row + 4 <= tile.rows; row += 4) attend_rows<4, T>(tile, row, run);
  for (; row + 2 <= tile.rows; row += 2) attend_rows<2, T>(tile, row, run);
  for (; row < tile.rows; ++row) attend_rows<1, T>(tile, row, run);
}

void attend_few(const DecodeTile& tile, const KeyRun& run) {
  if (run.type == DType::bf16) {
    attend_few_typed<hwy::bfloat16_t>(tile, run);
  } else {
    attend_few_typed<float>(tile, run);
  }
}

}  // namespace fastkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastkv {

HWY_EXPORT(pack_block);
HWY_EXPORT(start_tile);
HWY_EXPORT(attend_block);
HWY_EXPORT(add_columns);
HWY_EXPORT(attend_few);

void pack_block(const KeySource& source, std::int64_t first, float* packed) {
  HWY_DYNAMIC_DISPATCH(pack_block)(source, first, packed);
}
void start_tile(const QueryTile& tile, const float* q, std::int64_t q_stride) {
  HWY_DYNAMIC_DISPATCH(start_tile)(tile, q, q_stride);
}
void attend_block(const QueryTile& tile, const float* packed, std::int64_t first_key,
                  bool with_values) {
  HWY_DYNAMIC_DISPATCH(attend_block)(tile, packed, first_key, with_values);
}
void add_columns(const QueryTile& tile, const float* packed, std::int64_t first_key,
                 const float* weight, const float* log_sum, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_columns)(tile, packed, first_key, weight, log_sum, sums);
}
void attend_few(const DecodeTile& tile, const KeyRun& run) {
  HWY_DYNAMIC_DISPATCH(attend_few)(tile, run);
}

}  // namespace fastkv
#endif
