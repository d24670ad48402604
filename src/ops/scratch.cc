#include "ops/scratch.h"

#include <cstdlib>

#include "core/error.h"

namespace fastkv {

std::shared_ptr<void> allocate_aligned(std::size_t bytes) {
  constexpr std::size_t alignment = 64;
  // aligned_alloc wants a multiple of the alignment, and a size of zero still needs an address.
  constexpr std::size_t address_space = std::size_t{1} << 47;
  if (bytes > address_space) fail("not enough memory: {} bytes were needed", bytes);
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) fail("not enough memory: {} bytes were needed", bytes);
  return {memory, std::free};
}

void* Scratch::reserve(std::size_t bytes) {
  if (bytes > bytes_ || memory_ == nullptr) {
    memory_.reset();  // before the new one: the peak counts
    bytes_ = 0;
    memory_ = allocate_aligned(bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

}  // namespace fastkv
