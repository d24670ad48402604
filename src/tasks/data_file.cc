#include "tasks/data_file.h"

#include <zlib.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json.h"

#ifdef FASTKV_HAS_LZMA
#include <lzma.h>
#endif

namespace fastkv {
namespace fs = std::filesystem;
namespace {

constexpr unsigned chunk = 1 << 20;

/// A file read through zlib, which passes on what is not gzip.
class GzipReader {
 public:
  explicit GzipReader(const fs::path& path)
      : path_(path.string()), file_(gzopen(path_.c_str(), "rb")) {
    if (!file_) fail("cannot open {}.", path_);
    gzbuffer(file_, chunk);
  }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;
  ~GzipReader() { gzclose(file_); }

  /// Appends the next bytes to `text`; false at the end.
  bool read(std::string& text) {
    const std::size_t old = text.size();
    text.resize(old + chunk);
    const int n = gzread(file_, text.data() + old, chunk);
    text.resize(old + static_cast<std::size_t>(std::max(n, 0)));
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    // A file that ends too early gives what there is and then this code.
    if (n < 0 || code == Z_BUF_ERROR) fail("cannot read {}: {}.", path_, message);
    return n > 0;
  }

 private:
  std::string path_;
  gzFile file_;
};

/// Calls `use` with each line and its number from 1, without its line break; false ends it.
void for_each_line(const fs::path& path,
                   const std::function<bool(std::string_view, std::int64_t)>& use) {
  GzipReader reader(path);
  std::string text;
  std::int64_t number = 0;
  for (std::size_t searched = 0; reader.read(text);) {
    std::size_t begin = 0;
    std::size_t end;
    while ((end = text.find('\n', std::max(begin, searched))) != std::string::npos) {
      std::string_view line(text.data() + begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!use(line, ++number)) return;
      begin = end + 1;
    }
    text.erase(0, begin);
    searched = text.size();
  }
  if (!text.empty()) use(text, number + 1);
}

std::string unpack_xz(const std::string& packed, const fs::path& path) {
#ifdef FASTKV_HAS_LZMA
  lzma_stream stream = LZMA_STREAM_INIT;
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> closes(&stream, lzma_end);
  if (lzma_stream_decoder(&stream, UINT64_MAX, LZMA_CONCATENATED) != LZMA_OK) {
    fail("cannot unpack {}: liblzma does not start.", path.string());
  }
  stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  std::string text;
  lzma_ret state = LZMA_OK;
  while (state == LZMA_OK) {
    const std::size_t old = text.size();
    text.resize(old + chunk);
    stream.next_out = reinterpret_cast<std::uint8_t*>(text.data() + old);
    stream.avail_out = chunk;
    state = lzma_code(&stream, LZMA_FINISH);
    text.resize(old + chunk - stream.avail_out);
  }
  if (state != LZMA_STREAM_END) fail("{} is not a whole xz file.", path.string());
  return text;
#else
  fail("{} is packed with xz, which this build does not read; unpack it ({} bytes) with xz -dk.",
       path.string(), packed.size());
#endif
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

std::string read_packed_file(const fs::path& path) {
  if (path.extension() == ".xz") return unpack_xz(read_text_file(path), path);
  GzipReader reader(path);
  std::string text;
  while (reader.read(text)) {
  }
  return text;
}

std::optional<fs::path> find_packed_file(const fs::path& directory, const std::string& name) {
  for (const char* packing : {"", ".gz", ".xz"}) {
    const fs::path path = directory / (name + packing);
    if (fs::is_regular_file(path)) return path;
  }
  return {};
}

fs::path need_packed_file(const fs::path& directory, const std::string& name,
                          std::string_view hint) {
  if (auto path = find_packed_file(directory, name)) return *path;
  fail("there is no {} (or .gz, .xz) in {}; {}", name, directory.string(), hint);
}

void samples_of_rows(const fs::path& path, const SampleRequest& request, const MakeSample& make,
                     const Benchmark::Take& take, std::vector<Issue>& issues) {
  std::set<std::string> ids;
  std::int64_t rows = 0;
  std::int64_t made = 0;
  for_each_line(path, [&](std::string_view line, std::int64_t number) {
    if (is_blank(line)) return true;
    if (request.limit > 0 && made == request.limit) return false;
    Sample sample;
    try {
      const Json row = parse_json(line, "the row");
      if (!row.is_object()) fail("the row must be a JSON object.");
      sample = make(row, rows);
    } catch (const Error& error) {
      issues.push_back({path.string(), number, error.what()});
      ++rows;
      return true;
    }
    ++rows;
    ++made;
    if (!ids.insert(sample.id).second) {
      sample.id += "#" + std::to_string(number);
      ids.insert(sample.id);
    }
    if (request.skip && request.skip(sample.id)) return true;
    return take(std::move(sample));
  });
}

}  // namespace fastkv
