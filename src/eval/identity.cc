#include "eval/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/error.h"
#include "eval/sha256.h"

namespace fastkv {
namespace fs = std::filesystem;
namespace {

constexpr std::uintmax_t mebibyte = 1 << 20;
constexpr std::uintmax_t samples = 64;  // MiB read of a large file

bool is_part_of_model(const std::string& name) {
  return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") ||
         name == "config.json" || name == "generation_config.json" || name == "tokenizer.json" ||
         name == "tokenizer.model" || name == "tokenizer_config.json" ||
         name == "special_tokens_map.json" || name == "chat_template.jinja";
}

void add_file(Sha256& hash, const fs::path& path, const std::string& name) {
  const std::uintmax_t size = fs::file_size(path);
  // A zero byte ends the name, which cannot have one.
  hash.add(name + '\0' + std::to_string(size) + '\0');
  std::ifstream in(path, std::ios::binary);
  std::string piece(mebibyte, '\0');
  const bool whole = size <= samples * mebibyte;
  const std::uintmax_t pieces = whole ? (size + mebibyte - 1) / mebibyte : samples;
  for (std::uintmax_t i = 0; i < pieces; ++i) {
    const std::uintmax_t at = whole ? i * mebibyte : (size - mebibyte) / (samples - 1) * i;
    const std::uintmax_t length = std::min(mebibyte, size - at);
    // The last one ends with the file, though the spacing was rounded down.
    const std::uintmax_t begin = !whole && i + 1 == pieces ? size - mebibyte : at;
    in.seekg(static_cast<std::streamoff>(begin));
    in.read(piece.data(), static_cast<std::streamsize>(length));
    if (!in) fail("{} cannot be read; check the file", path.string());
    hash.add(std::string_view(piece).substr(0, length));
  }
}

}  // namespace

std::string model_name(const EngineOptions& options) {
  fs::path path(options.model);
  if (!path.has_filename()) path = path.parent_path();
  return path.filename() == "." || path.filename() == ".."
             ? fs::absolute(path).lexically_normal().filename().string()
             : path.filename().string();
}

std::string model_hash(const EngineOptions& options) {
  Sha256 hash;
  if (options.model.empty()) {
    hash.add(fmt::format("random weights {} seed {}", options.random_weights, options.weight_seed));
    return hash.finish();
  }
  if (!fs::is_directory(options.model)) {
    fail("there is no checkpoint directory {}; check --model", options.model);
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(options.model)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && is_part_of_model(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) add_file(hash, fs::path(options.model) / name, name);
  return hash.finish();
}

std::string sample_hash(const Sample& sample) {
  Sha256 hash;
  // Sizes first, so that no two samples run together to the same bytes.
  const auto add = [&](std::string_view text) {
    hash.add(std::to_string(text.size()) + ' ');
    hash.add(text);
  };
  for (const std::string* text :
       {&sample.system, &sample.context, &sample.question, &sample.answer_prefix})
    add(*text);
  for (const auto* list : {&sample.answers, &sample.all_classes, &sample.stop}) {
    add(std::to_string(list->size()));
    for (const std::string& text : *list) add(text);
  }
  return hash.finish().substr(0, 16);
}

std::string code_version() { return FASTKV_CODE_VERSION; }

}  // namespace fastkv
