#include "core/file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace fastkv {
namespace {

/// An open file; closed at the end of its scope (a mapping outlives it).
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path)
      : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }

 private:
  int number_;
};

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

FileMap::FileMap(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(path);
  if (file.get() < 0) {
    fail("{}: cannot open this file ({}); check that it exists and is readable.", path.string(),
         reason(errno));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    fail("{}: cannot read this file's size ({}).", path.string(), reason(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    fail("{}: a regular file was expected, this is a directory or a device.", path.string());
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) {
    fail("{}: cannot map this file of {} bytes into memory ({}).", path.string(), size_,
         reason(errno));
  }
  data_ = static_cast<const std::byte*>(memory);
}

FileMap::~FileMap() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

FileMap::FileMap(FileMap&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void FileMap::advise(Access access) const {
  if (!data_) return;
  // Only a hint: where the system refuses it, reading works as before.
  (void)::madvise(const_cast<std::byte*>(data_), size_,
                  access == Access::sequential ? MADV_SEQUENTIAL : MADV_WILLNEED);
}

}  // namespace fastkv
