#include "fastkv/write_file.h"

#include <unistd.h>

#include <atomic>
#include <fstream>

#include "core/error.h"

namespace fastkv {

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  static std::atomic<unsigned> count = 0;  // a name that nobody else writes meanwhile
  const std::filesystem::path part =
      fmt::format("{}.{}-{}.part", path.string(), getpid(), count.fetch_add(1));
  std::ofstream out(part, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::error_code failed;
  if (out) std::filesystem::rename(part, path, failed);
  if (!out || failed) {
    std::filesystem::remove(part, failed);
    fail("{} cannot be written; check that its folder exists, is writable and has room",
         path.string());
  }
}

}  // namespace fastkv
