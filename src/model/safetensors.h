#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file_map.h"
#include "core/tensor.h"

// The safetensors format: 8 bytes with the header's length, a JSON header, the tensors' bytes.
// https://github.com/huggingface/safetensors#format

namespace fastkv {

/// A tensor as a file's header describes it.
struct StoredTensor {
  std::string dtype;               // the file's word: "F32", "BF16", "I64", ...
  std::vector<std::int64_t> dims;  // outermost first
  std::size_t offset = 0;          // of the first byte, from the file's beginning
  std::size_t bytes = 0;

  /// The type as the engine knows it; empty for types that weights cannot have here.
  std::optional<DType> type() const;
};

using StoredTensors = std::map<std::string, StoredTensor, std::less<>>;

/// Reads the header of a whole file in memory and checks every tensor: inside the file, its size
/// that of its shape and type, no two overlapping, no name twice. Throws Error; `where` names the
/// file in messages.
StoredTensors parse_safetensors(std::span<const std::byte> file, std::string_view where);

/// The tensors of a checkpoint directory: model.safetensors, or the files that
/// model.safetensors.index.json lists.
class SafetensorsDirectory {
 public:
  /// Opens every file and checks every header. Throws Error.
  explicit SafetensorsDirectory(const std::filesystem::path& directory);

  struct Entry {
    StoredTensor tensor;
    std::shared_ptr<const FileMap> file;
    const std::byte* data() const { return file->bytes().data() + tensor.offset; }
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  const std::filesystem::path& path() const { return directory_; }
  const Entries& entries() const { return entries_; }
  /// nullptr where there is no such tensor.
  const Entry* find(std::string_view name) const;
  const std::vector<std::shared_ptr<const FileMap>>& files() const { return files_; }

 private:
  std::shared_ptr<const FileMap> open(const std::filesystem::path& file);
  void add_file(const std::filesystem::path& file);
  void add_indexed(const std::filesystem::path& index);

  std::filesystem::path directory_;
  Entries entries_;
  std::vector<std::shared_ptr<const FileMap>> files_;
};

}  // namespace fastkv
