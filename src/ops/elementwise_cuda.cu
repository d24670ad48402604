// Elementwise operations: rms_norm, add_bias, rope, swiglu.

#include <cassert>

#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

using cuda::blocks_for;
using cuda::from_float;
using cuda::to_float;

/// Eight consecutive numbers, in one access where the type and alignment allow it.
template <class T>
struct Eight;
template <>
struct Eight<float> {
  static constexpr int width = 8;
  float value[width];

  __device__ void load(const float* from) {
    if (reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
      const float4 low = reinterpret_cast<const float4*>(from)[0];
      const float4 high = reinterpret_cast<const float4*>(from)[1];
      value[0] = low.x, value[1] = low.y, value[2] = low.z, value[3] = low.w;
      value[4] = high.x, value[5] = high.y, value[6] = high.z, value[7] = high.w;
    } else {
      for (int i = 0; i < 8; ++i) value[i] = from[i];
    }
  }
  __device__ void store(float* to) const {
    for (int i = 0; i < 8; ++i) to[i] = value[i];
  }
};
template <>
struct Eight<__nv_bfloat16> {
  static constexpr int width = 8;
  float value[width];

  __device__ void load(const __nv_bfloat16* from) {
    if (reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
      const uint4 packed = *reinterpret_cast<const uint4*>(from);
      const auto* pair = reinterpret_cast<const __nv_bfloat162*>(&packed);
      for (int i = 0; i < 4; ++i) {
        const float2 f = __bfloat1622float2(pair[i]);
        value[2 * i] = f.x;
        value[2 * i + 1] = f.y;
      }
    } else {
      for (int i = 0; i < 8; ++i) value[i] = to_float(from[i]);
    }
  }
  __device__ void store(__nv_bfloat16* to) const {
    if (reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
      uint4 packed;
      auto* pair = reinterpret_cast<__nv_bfloat162*>(&packed);
      for (int i = 0; i < 4; ++i) pair[i] = __floats2bfloat162_rn(value[2 * i], value[2 * i + 1]);
      *reinterpret_cast<uint4*>(to) = packed;
    } else {
      for (int i = 0; i < 8; ++i) to[i] = from_float<__nv_bfloat16>(value[i]);
    }
  }
};

/// One number, where rows do not fall into eights.
template <class T>
struct One {
  static constexpr int width = 1;
  float value[width];

  __device__ void load(const T* from) { value[0] = to_float(*from); }
  __device__ void store(T* to) const { *to = from_float<T>(value[0]); }
};

constexpr int norm_threads = 256;
constexpr int norm_pass = norm_threads * 8;  // numbers that a block takes at a time
constexpr int norm_kept = 2;                 // of them stay in registers; of longer rows the rest
                                             // is read twice

template <class In, class Out>
__global__ void __launch_bounds__(norm_threads)
    rms_norm_kernel(const In* x, std::int64_t x_stride, const float* weight, float epsilon,
                    Out* out, std::int64_t out_stride, std::int64_t width) {
  __shared__ float scratch[32];
  cuda::let_next_start();
  cuda::wait_for_inputs();
  x += blockIdx.x * x_stride;
  out += blockIdx.x * out_stride;
  const std::int64_t whole = width / 8 * 8, mine = threadIdx.x * 8;
  Eight<In> kept[norm_kept];
  Eight<float> factor[norm_kept];
  float squares = 0;
#pragma unroll
  for (int pass = 0; pass < norm_kept; ++pass) {
    const std::int64_t i = pass * norm_pass + mine;
    if (i >= whole) continue;
    kept[pass].load(x + i);
    factor[pass].load(weight + i);
  }
#pragma unroll
  for (int pass = 0; pass < norm_kept; ++pass) {
    if (pass * norm_pass + mine >= whole) continue;
    for (float v : kept[pass].value) squares += v * v;
  }
  for (std::int64_t i = norm_kept * norm_pass + mine; i < whole; i += norm_pass) {
    Eight<In> e;
    e.load(x + i);
    for (float v : e.value) squares += v * v;
  }
  for (std::int64_t i = whole + threadIdx.x; i < width; i += norm_threads)
    squares += to_float(x[i]) * to_float(x[i]);
  const float scale =
      rsqrtf(cuda::block_sum(squares, scratch) / static_cast<float>(width) + epsilon);
  const auto finish = [&](const Eight<In>& e, const Eight<float>& f, std::int64_t i) {
    Eight<Out> normed;
    for (int j = 0; j < 8; ++j) normed.value[j] = e.value[j] * scale * f.value[j];
    normed.store(out + i);
  };
#pragma unroll
  for (int pass = 0; pass < norm_kept; ++pass) {
    const std::int64_t i = pass * norm_pass + mine;
    if (i < whole) finish(kept[pass], factor[pass], i);
  }
  for (std::int64_t i = norm_kept * norm_pass + mine; i < whole; i += norm_pass) {
    Eight<In> e;
    Eight<float> f;
    e.load(x + i);
    f.load(weight + i);
    finish(e, f, i);
  }
  for (std::int64_t i = whole + threadIdx.x; i < width; i += norm_threads)
    out[i] = from_float<Out>(to_float(x[i]) * scale * weight[i]);
}

template <class T>
__global__ void add_bias_kernel(T* x, std::int64_t stride, const float* bias, std::int64_t rows,
                                std::int64_t width) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * width) return;
  T& value = x[i / width * stride + i % width];
  value = from_float<T>(to_float(value) + bias[i % width]);
}

struct RopeShape {
  std::int64_t rows, x_stride, out_stride;
  int heads, rotated, half;
  int heads_each;  // of one thread
};

/// A thread turns the pairs of one piece of dimensions in `heads_each` heads: the angles are the
/// same for all. `half` is a multiple of a piece. x may be out.
template <template <class> class Piece, class In, class Out>
__global__ void rope_kernel(const In* x, const std::int32_t* positions, const float* frequencies,
                            Out* out, RopeShape s) {
  constexpr int width = Piece<In>::width;
  cuda::let_next_start();
  cuda::wait_for_inputs();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t row = i * width / s.half;
  const int d = static_cast<int>(i * width % s.half);
  if (row >= s.rows) return;
  float sine[width], cosine[width];
  for (int j = 0; j < width; ++j)
    sincosf(static_cast<float>(positions[row]) * frequencies[d + j], &sine[j], &cosine[j]);
  const int first = static_cast<int>(blockIdx.y) * s.heads_each;
  const int last = min(s.heads, first + s.heads_each);
#pragma unroll 2
  for (int h = first; h < last; ++h) {
    const std::int64_t at = static_cast<std::int64_t>(h) * 2 * s.half + d;
    Piece<In> a, b;
    a.load(x + row * s.x_stride + at);
    b.load(x + row * s.x_stride + at + s.half);
    const bool turns = h < s.rotated;  // else not even an infinite number touches its pair
    Piece<Out> turned_a, turned_b;
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const float x_a = a.value[j], x_b = b.value[j];
      turned_a.value[j] = turns ? x_a * cosine[j] - x_b * sine[j] : x_a;
      turned_b.value[j] = turns ? x_b * cosine[j] + x_a * sine[j] : x_b;
    }
    turned_a.store(out + row * s.out_stride + at);
    turned_b.store(out + row * s.out_stride + at + s.half);
  }
}

template <class T>
__global__ void swiglu_kernel(const T* gate_up, std::int64_t in_stride, T* out,
                              std::int64_t out_stride, std::int64_t rows, std::int64_t width) {
  const std::int64_t pieces = (width + 7) / 8;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * pieces) return;
  const std::int64_t first = i % pieces * 8;
  const T* gate = gate_up + i / pieces * in_stride + first;
  T* to = out + i / pieces * out_stride + first;
  const auto activate = [](float g, float u) { return g / (1.0F + expf(-g)) * u; };
  if (first + 8 <= width) {
    Eight<T> g, u;
    g.load(gate);
    u.load(gate + width);
    for (int j = 0; j < 8; ++j) g.value[j] = activate(g.value[j], u.value[j]);
    g.store(to);
  } else {
    for (std::int64_t j = 0; j < width - first; ++j)
      to[j] = from_float<T>(activate(to_float(gate[j]), to_float(gate[width + j])));
  }
}

/// Calls work with a null pointer of the type that activations of `type` have.
template <class Work>
void with_type(DType type, const Work& work) {
  assert(type == DType::f32 || type == DType::bf16);
  if (type == DType::f32) {
    work(static_cast<float*>(nullptr));
  } else {
    work(static_cast<__nv_bfloat16*>(nullptr));
  }
}

}  // namespace

void CudaDevice::rms_norm(const View& x, const View& weight, float epsilon, const View& out) {
  if (x.rows() == 0) return;
  with_type(x.type, [&]<class In>(In*) {
    with_type(out.type, [&]<class Out>(Out*) {
      cuda::launch("rms_norm_kernel", rms_norm_kernel<In, Out>,
                   dim3(static_cast<unsigned>(x.rows())), norm_threads, 0, stream(), true,
                   static_cast<const In*>(x.data), x.row_stride,
                   static_cast<const float*>(weight.data), epsilon, static_cast<Out*>(out.data),
                   out.row_stride, x.shape[1]);
    });
  });
}

void CudaDevice::add_bias(const View& x, const View& bias) {
  if (x.shape.count() == 0) return;
  with_type(x.type, [&]<class T>(T*) {
    cuda::launch("add_bias_kernel", add_bias_kernel<T>, dim3(blocks_for(x.shape.count(), 256)), 256,
                 0, stream(), false, static_cast<T*>(x.data), x.row_stride,
                 static_cast<const float*>(bias.data), x.rows(), x.shape[1]);
  });
}

void CudaDevice::rope(const View& x, std::int64_t rotated, const View& positions,
                      const View& frequencies, const View& out) {
  RopeShape shape{.rows = x.rows(),
                  .x_stride = x.row_stride,
                  .out_stride = out.row_stride,
                  .heads = static_cast<int>(x.shape[1]),
                  .rotated = static_cast<int>(rotated),
                  .half = static_cast<int>(x.shape[2] / 2),
                  .heads_each = 1};
  if (shape.rows == 0 || shape.half == 0) return;
  // Few rows leave most of the device idle unless heads are spread as well.
  if (shape.rows >= 1024) shape.heads_each = (shape.heads + 1) / 2;
  const auto launch = [&]<template <class> class Piece, class In, class Out>(Piece<In>*, Out* to) {
    const dim3 grid(blocks_for(shape.rows * shape.half / Piece<In>::width, 256),
                    blocks_for(shape.heads, shape.heads_each));
    cuda::launch("rope_kernel", rope_kernel<Piece, In, Out>, grid, 256, 0, stream(), true,
                 static_cast<const In*>(x.data), static_cast<const std::int32_t*>(positions.data),
                 static_cast<const float*>(frequencies.data), to, shape);
  };
  with_type(x.type, [&]<class In>(In*) {
    with_type(out.type, [&]<class Out>(Out*) {
      auto* to = static_cast<Out*>(out.data);
      if (shape.half % 8 == 0) {
        launch(static_cast<Eight<In>*>(nullptr), to);
      } else {
        launch(static_cast<One<In>*>(nullptr), to);
      }
    });
  });
}

void CudaDevice::swiglu(const View& gate_up, const View& out) {
  const std::int64_t width = out.shape[1];
  if (out.shape.count() == 0) return;
  with_type(out.type, [&]<class T>(T*) {
    cuda::launch("swiglu_kernel", swiglu_kernel<T>,
                 dim3(blocks_for(out.rows() * ((width + 7) / 8), 256)), 256, 0, stream(), false,
                 static_cast<const T*>(gate_up.data), gate_up.row_stride, static_cast<T*>(out.data),
                 out.row_stride, out.rows(), width);
  });
}

}  // namespace fastkv
