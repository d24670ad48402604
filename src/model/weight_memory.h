#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace fastkv {

/// Memory for weights that do not stay in their files. Taken from large blocks in huge pages,
/// where the system has them: filling gigabytes page by page takes longer than computing them.
class WeightMemory {
 public:
  /// Uninitialised, aligned to 64 bytes. Throws Error when there is not enough.
  std::byte* take(std::size_t bytes);
  /// The blocks, which must live as long as anything that was taken.
  std::vector<std::shared_ptr<const void>> release();

 private:
  std::vector<std::shared_ptr<const void>> blocks_;
  std::byte* next_ = nullptr;  // of the last block
  std::size_t left_ = 0;
};

}  // namespace fastkv
