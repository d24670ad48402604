#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace fastkv {

/// A file mapped into memory, read-only. Pages come from the file when they are first touched, so
/// a checkpoint larger than memory can be opened; a file that another program truncates while it
/// is mapped cannot be read safely by anyone (the system raises SIGBUS).
class FileMap {
 public:
  /// Throws Error when `path` is not a file that can be read.
  explicit FileMap(const std::filesystem::path& path);
  ~FileMap();
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  /// What will be done with the file; a hint that lets the system read ahead.
  enum class Access {
    sequential,  // once, from the beginning to the end
    will_need,   // all of it, soon: start reading now
  };
  void advise(Access access) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;  // nullptr for an empty file: nothing can be mapped
  std::size_t size_ = 0;
};

}  // namespace fastkv
