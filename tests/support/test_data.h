#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

// Third-party test data that is not part of the repository: $FASTKV_TEST_DATA, by default
// ../shared/data beside the checkout. Tests that need it skip with a line where it is absent.

namespace fastkv::test {

inline std::filesystem::path data_dir() {
  const char* set = std::getenv("FASTKV_TEST_DATA");
  return set && *set ? std::filesystem::path(set)
                     : std::filesystem::path(FASTKV_SOURCE_DIR) / "../shared/data";
}

/// Reads a file, unpacking gzip (zlib passes other files through).
inline std::string read_file(const std::filesystem::path& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) throw std::runtime_error("cannot open " + path.string());
  std::string text;
  std::vector<char> buffer(1 << 20);
  int n = 0;
  while ((n = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  gzclose(file);
  if (n < 0) throw std::runtime_error("cannot read " + path.string());
  return text;
}

/// The rows of a JSON Lines file.
inline std::vector<nlohmann::json> read_jsonl(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  std::vector<nlohmann::json> rows;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) rows.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return rows;
}

/// An empty directory that goes away with the object.
class TemporaryDir {
 public:
  TemporaryDir() {
    std::string name = (std::filesystem::temp_directory_path() / "fastkv-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  ~TemporaryDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace fastkv::test

/// Skips the test when `path` of the test data is absent.
#define FASTKV_NEEDS_DATA(path)                                    \
  if (!std::filesystem::exists(fastkv::test::data_dir() / (path))) \
  GTEST_SKIP() << "test data " << (fastkv::test::data_dir() / (path)).string() << " is absent"
