#include "fastkv/write_file.h"

#include <unistd.h>

#include <atomic>
#include <fstream>

#include "core/error.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;

/// A terminal, a pipe, a device.
bool is_special(const fs::path& path) {
  std::error_code ignored;
  return fs::is_other(fs::status(path, ignored));
}

/// The file that a link leads to.
fs::path target_of(const fs::path& path) {
  std::error_code failed;
  const fs::path target = fs::canonical(path, failed);
  return failed ? path : target;
}

/// A name beside `path` that nobody else writes to meanwhile.
fs::path new_name(const fs::path& path) {
  static std::atomic<unsigned> count = 0;
  return fmt::format("{}.{}-{}.part", path.string(), getpid(), count.fetch_add(1));
}

}  // namespace

void write_file(const fs::path& path, std::string_view bytes) {
  const bool special = is_special(path);
  const fs::path target = special ? path : target_of(path);
  const fs::path part = special ? path : new_name(target);
  std::ofstream out(part, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::error_code failed;
  if (out && !special) fs::rename(part, target, failed);
  if (!out || failed) {
    if (!special) fs::remove(part, failed);
    fail("{} cannot be written; check that its folder exists, is writable and has room",
         path.string());
  }
}

bool can_write_file(const fs::path& path) {
  std::error_code ignored;
  if (is_special(path)) return access(path.c_str(), W_OK) == 0;
  if (fs::is_directory(path, ignored)) return false;
  const fs::path part = new_name(target_of(path));
  const bool opened = std::ofstream(part).is_open();
  if (opened) fs::remove(part, ignored);
  return opened;
}

}  // namespace fastkv
