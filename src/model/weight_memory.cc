#include "model/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace fastkv {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t block_bytes = std::size_t{256} << 20;  // only what is touched gets memory

constexpr std::size_t round_up(std::size_t bytes, std::size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

}  // namespace

std::byte* WeightMemory::take(std::size_t bytes) {
  const std::size_t rounded = round_up(bytes, alignment);
  if (rounded > left_) {
    const std::size_t size = round_up(std::max(rounded, block_bytes), huge_page);
    void* block = std::aligned_alloc(huge_page, size);
    if (!block) fail("There is not enough memory for weights: {} bytes were needed.", size);
    (void)::madvise(block, size, MADV_HUGEPAGE);  // a hint; where refused, pages are small
    blocks_.emplace_back(block, std::free);
    next_ = static_cast<std::byte*>(block);
    left_ = size;
  }
  left_ -= rounded;
  return std::exchange(next_, next_ + rounded);
}

std::vector<std::shared_ptr<const void>> WeightMemory::release() {
  left_ = 0;
  return std::exchange(blocks_, {});
}

}  // namespace fastkv
