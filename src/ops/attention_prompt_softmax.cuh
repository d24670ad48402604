#pragma once

#include <cuda_bf16.h>

#include <cstdint>

// What the kernels of prompt attention share: softmax over tiles of scores, masks, results. All of
// it is about one warp's 16 rows, as matrix units return them: thread t holds the rows t / 4 and
// t / 4 + 8, and of every 8 columns the two at 2 (t % 4): x[4 g], x[4 g + 1] for the first row and
// x[4 g + 2], x[4 g + 3] for the second.

namespace fastkv::cuda {

/// First key that the query of row `row` sees under a sliding window. Positions ascend, so what a
/// row sees is one range of keys, and kernels need to compare row numbers only.
__device__ inline int first_visible(const std::int32_t* positions, int row, int window) {
  const int limit = positions[row] - window;  // sees positions above
  // Without gaps in the positions the answer is known.
  const int guess = max(0, row - window + 1);
  if (positions[guess] > limit && (guess == 0 || positions[guess - 1] <= limit)) return guess;
  int low = 0;
  int high = row;  // a row sees itself
  while (low < high) {
    const int middle = (low + high) / 2;
    if (positions[middle] > limit) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// Last query that sees a key, of those that come after it.
__device__ inline int last_viewer(const std::int32_t* positions, int key, int window, int n) {
  const int limit = positions[key] + window;  // seen from positions below
  int low = key;
  int high = n - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (positions[middle] < limit) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// Transposes 4 x 4 words over the four threads of a quad: thread q's word i goes to thread i's
/// word q.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4]) {
  const bool odd = threadIdx.x & 1;
  const bool upper = threadIdx.x & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t got = __shfl_xor_sync(~0u, odd ? words[i] : words[i + 1], 1);
    (odd ? words[i] : words[i + 1]) = got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t got = __shfl_xor_sync(~0u, upper ? words[i] : words[i + 2], 2);
    (upper ? words[i] : words[i + 2]) = got;
  }
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

/// Softmax of two rows per thread, over tiles of keys.
struct OnlineSoftmax {
  // The maximum that exponents are taken from may lag behind the true one by this factor of 2: the
  // result is the same, and accumulators seldom have to be scaled.
  static constexpr float kLag = 8.0f;

  float scale2;  // log2(e) / sqrt(D)
  float max[2];
  float sum[2];    // this thread's columns
  float alpha[2];  // factor for what was accumulated before
  bool rescale;    // some row of this warp has a factor other than 1

  __device__ void start(float scale) {
    scale2 = scale * 1.44269504f;
    max[0] = max[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
  }

  /// Turns scores into probabilities relative to `max`.
  template <bool kMasked, int kCount>
  __device__ __forceinline__ void apply(float (&s)[kCount]) {
    bool grows = false;
    float offset[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float top = s[2 * row];
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
        top = fmaxf(top, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
      }
      top = quad_max(top);
      const bool row_grows = (top - max[row]) * scale2 > kLag;
      // Nothing seen yet: -inf - -inf is not a number, which compares false.
      const float next = row_grows ? top : max[row];
      alpha[row] = row_grows ? exp2_fast((max[row] - next) * scale2) : 1.0f;
      max[row] = next;
      grows |= row_grows;
      offset[row] = (kMasked && next == -INFINITY) ? 0.0f : next * scale2;
    }
    rescale = __any_sync(~0u, grows);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float total = 0.0f;
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[i + 2 * row + e];
          x = exp2_fast(fmaf(x, scale2, -offset[row]));
          total += x;
        }
      }
      sum[row] = fmaf(sum[row], alpha[row], total);
    }
  }
};

/// Hides the keys after a row, and those before its window. `row` is this thread's first row,
/// `first_key` the key of column 0.
template <bool kWindow, int kCount>
__device__ __forceinline__ void mask_scores(float (&s)[kCount], int first_key, int row,
                                            const int (&visible)[2]) {
  const int column = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int key = column + i / 4 * 8 + i % 2;
    const int at = i / 2 % 2;
    const bool seen = key <= row + 8 * at && (!kWindow || key >= visible[at]);
    if (!seen) s[i] = -INFINITY;
  }
}

struct PromptResult {
  __nv_bfloat16* out;  // (n, Hq * D)
  std::int64_t out_stride;
  float* log_sum_exp;  // (n, Hq), may be null
  int n;
  int query_heads;
  float scale;
};

/// Divides by the denominator and writes the rows `row` and `row` + 8.
template <int kCount>
__device__ __forceinline__ void finish_rows(const float (&o)[kCount], const OnlineSoftmax& softmax,
                                            int row, int head, const PromptResult& result) {
  constexpr int kHeadDim = kCount * 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int at = 0; at < 2; ++at) {
    const int out_row = row + 8 * at;
    const float sum = quad_sum(softmax.sum[at]);
    const float inverse = 1.0f / sum;
    if (result.log_sum_exp != nullptr && lane % 4 == 0 && out_row < result.n) {
      result.log_sum_exp[static_cast<std::int64_t>(out_row) * result.query_heads + head] =
          softmax.max[at] * result.scale + logf(sum);
    }
    __nv_bfloat16* out = result.out + out_row * result.out_stride + head * kHeadDim + lane % 4 * 8;
#pragma unroll
    for (int block = 0; block < kHeadDim / 32; ++block) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int first = (4 * block + i) * 4 + 2 * at;
        words[i] = pack_bf16(o[first] * inverse, o[first + 1] * inverse);
      }
      transpose_quad(words);
      if (out_row < result.n) {
        *reinterpret_cast<uint4*>(out + 32 * block) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

}  // namespace fastkv::cuda
