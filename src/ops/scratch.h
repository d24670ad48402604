#pragma once

#include <cstddef>
#include <memory>

namespace fastkv {

/// Memory aligned for SIMD. Throws Error naming the bytes when there is not enough.
std::shared_ptr<void> allocate_aligned(std::size_t bytes);

/// A buffer that grows and is kept between calls, so that steady work does not allocate.
class Scratch {
 public:
  /// At least `bytes` bytes; what they held before is lost when the buffer grows.
  void* reserve(std::size_t bytes);
  template <class T>
  T* reserve_array(std::size_t count) {
    return static_cast<T*>(reserve(count * sizeof(T)));
  }

 private:
  std::shared_ptr<void> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace fastkv
