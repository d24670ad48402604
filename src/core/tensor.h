#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string_view>

namespace fastkv {

/// Types of stored numbers. f32 is what the CPU computes in; the others are storage.
enum class DType : std::uint8_t { f32, f16, bf16, i32 };

constexpr std::size_t size_of(DType type) {
  return type == DType::f32 || type == DType::i32 ? 4 : 2;
}
constexpr std::string_view name_of(DType type) {
  switch (type) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i32:
      return "int32";
  }
  return "?";
}

/// Up to three dimensions, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
    assert(dims.size() <= dims_.size());
    int i = 0;
    for (std::int64_t d : dims) dims_[static_cast<std::size_t>(i++)] = d;
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 3> dims_ = {1, 1, 1};
  int rank_ = 0;
};

/// Memory with its shape, owned by somebody else. Row-major; consecutive entries of the first
/// dimension lie `row_stride` elements apart, everything inside a row is contiguous.
struct View {
  void* data = nullptr;
  DType type = DType::f32;
  Shape shape;
  std::int64_t row_stride = 0;  // elements

  View() = default;
  View(void* memory, DType dtype, Shape dims, std::int64_t stride = 0)
      : data(memory),
        type(dtype),
        shape(dims),
        row_stride(stride        ? stride
                   : dims.rank() ? dims.count() / (dims[0] ? dims[0] : 1)
                                 : 1) {}

  explicit operator bool() const { return data != nullptr; }
  std::int64_t rows() const { return shape[0]; }
  std::byte* row_bytes(std::int64_t row) const {
    return static_cast<std::byte*>(data) +
           static_cast<std::size_t>(row * row_stride) * size_of(type);
  }
  /// The memory as numbers of type T, which must have the size of `type`.
  template <class T>
  T* as() const {
    assert(sizeof(T) == size_of(type));
    return static_cast<T*>(data);
  }
  template <class T>
  T* row(std::int64_t r) const {
    return as<T>() + r * row_stride;
  }
  /// Rows [first, first + count).
  View slice(std::int64_t first, std::int64_t count) const {
    View v = *this;
    v.data = row_bytes(first);
    Shape s = shape;
    v.shape = s.rank() == 1   ? Shape{count}
              : s.rank() == 2 ? Shape{count, s[1]}
                              : Shape{count, s[1], s[2]};
    return v;
  }
  /// Columns [first, first + heads * dim) of a two-dimensional view, seen as (rows, heads, dim).
  View heads(std::int64_t first, std::int64_t head_count, std::int64_t dim) const {
    assert(shape.rank() == 2);
    View v = *this;
    v.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(first) * size_of(type);
    v.shape = Shape{shape[0], head_count, dim};
    return v;
  }
};

/// Memory of a device with its shape; freed with it.
class Tensor {
 public:
  using Deleter = std::function<void(void*)>;
  Tensor() = default;
  Tensor(void* memory, DType type, Shape shape, Deleter free)
      : view_(memory, type, shape), memory_(memory, std::move(free)) {}

  const View& view() const { return view_; }
  operator const View&() const { return view_; }
  const Shape& shape() const { return view_.shape; }
  DType type() const { return view_.type; }
  explicit operator bool() const { return static_cast<bool>(view_); }
  template <class T>
  T* as() const {
    return view_.as<T>();
  }
  std::size_t bytes() const { return static_cast<std::size_t>(shape().count()) * size_of(type()); }

 private:
  View view_;
  std::unique_ptr<void, Deleter> memory_;
};

/// A linear layer's weight, (rows, columns), as one or more matrices stacked by rows: the three of
/// a q/k/v projection or the two of gate/up can stay where the file has them.
struct Matrix {
  static constexpr int max_parts = 3;
  std::array<View, max_parts> part;  // each (rows_i, columns)
  int parts = 0;

  std::int64_t rows() const {
    std::int64_t n = 0;
    for (int i = 0; i < parts; ++i) n += part[static_cast<std::size_t>(i)].rows();
    return n;
  }
  std::int64_t columns() const { return part[0].shape[1]; }
};

}  // namespace fastkv
