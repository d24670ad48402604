#include "model/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t length_bytes = 8;
/// The format's own limit. A real header takes about 100 bytes per tensor.
constexpr std::uint64_t max_header_bytes = 100'000'000;
constexpr std::size_t max_dims = 16;

struct DTypeName {
  std::string_view name;
  std::size_t bits;
  std::optional<DType> type;
};
constexpr auto dtype_names = std::to_array<DTypeName>({
    {"F32", 32, DType::f32},
    {"F16", 16, DType::f16},
    {"BF16", 16, DType::bf16},
    {"F64", 64, std::nullopt},
    {"I64", 64, std::nullopt},
    {"I32", 32, std::nullopt},
    {"I16", 16, std::nullopt},
    {"I8", 8, std::nullopt},
    {"U64", 64, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U16", 16, std::nullopt},
    {"U8", 8, std::nullopt},
    {"BOOL", 8, std::nullopt},
    {"C64", 64, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F4", 4, std::nullopt},
});

/// A name from a file as messages show it: in quotation marks, control characters escaped.
std::string shown(const std::string& name) { return Json(name).dump(); }

const DTypeName* find_dtype(std::string_view name) {
  const auto found = std::find_if(dtype_names.begin(), dtype_names.end(),
                                  [&](const DTypeName& d) { return d.name == name; });
  return found == dtype_names.end() ? nullptr : &*found;
}

/// Sees the JSON go by and reports an object that has a key twice: the JSON library would keep one
/// of the two, and another program perhaps the other.
class DuplicateKeys : public nlohmann::json_sax<Json> {
 public:
  explicit DuplicateKeys(std::string_view where) : where_(where) {}
  bool start_object(std::size_t) override {
    open_.emplace_back();
    return true;
  }
  bool end_object() override {
    open_.pop_back();
    return true;
  }
  bool key(string_t& name) override {
    if (!open_.back().insert(name).second) {
      fail("{}: the header has the entry {} twice; the file is damaged.", where_, shown(name));
    }
    return true;
  }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override {
    return false;
  }

 private:
  std::string_view where_;
  std::vector<std::set<std::string>> open_;
};

Json parse_header(std::string_view text, std::string_view where) {
  Json header = parse_json(text, where);
  if (!header.is_object()) fail("{}: the header must be a JSON object.", where);
  DuplicateKeys handler(where);
  Json::sax_parse(text, &handler);
  return header;
}

std::uint64_t read_header_length(std::span<const std::byte> file, std::string_view where) {
  if (file.size() < length_bytes) {
    fail("{}: a safetensors file begins with 8 bytes, this one has {} in all; it is truncated.",
         where, file.size());
  }
  std::uint64_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;) {  // little-endian on every machine
    length = length << 8 | std::to_integer<std::uint64_t>(file[i]);
  }
  if (length > max_header_bytes) {
    fail(
        "{}: the header claims {} bytes, more than the {} the format allows; this is not a "
        "safetensors file or it is damaged.",
        where, length, max_header_bytes);
  }
  if (length > file.size() - length_bytes) {
    fail("{}: the header claims {} bytes, but only {} follow; the file is truncated.", where,
         length, file.size() - length_bytes);
  }
  return length;
}

/// Bits of all elements; empty where that number does not fit.
std::optional<std::uint64_t> total_bits(const StoredTensor& tensor, std::size_t bits) {
  std::uint64_t total = bits;
  for (std::int64_t d : tensor.dims) {
    if (__builtin_mul_overflow(total, static_cast<std::uint64_t>(d), &total)) return std::nullopt;
  }
  return total;
}

/// `entry` is one value of the header; offsets in it count from `data_begin`.
StoredTensor parse_entry(const Json& entry, const std::string& where, std::size_t data_begin,
                         std::size_t data_size) {
  StoredTensor tensor;
  tensor.dtype = get_string(entry, "dtype", where);
  for (const Json& dim : get_array(entry, "shape", where)) {
    const std::int64_t d = to_int(dim, "shape", where);
    if (d < 0) fail("{}: a dimension is {}; it must not be negative.", where, d);
    tensor.dims.push_back(d);
    if (tensor.dims.size() > max_dims) {
      fail("{}: it has more than {} dimensions.", where, max_dims);
    }
  }
  const Json& offsets = get_array(entry, "data_offsets", where);
  if (offsets.size() != 2) {
    fail("{}: data_offsets must be two numbers, begin and end; it has {}.", where, offsets.size());
  }
  const std::int64_t begin = to_int(offsets[0], "data_offsets", where);
  const std::int64_t end = to_int(offsets[1], "data_offsets", where);
  if (begin < 0 || end < begin) {
    fail("{}: data_offsets [{}, {}] are not a range.", where, begin, end);
  }
  if (static_cast<std::uint64_t>(end) > data_size) {
    fail(
        "{}: its data ends at byte {}, but the file has only {} bytes of data; it is truncated "
        "(download it again).",
        where, end, data_size);
  }
  tensor.offset = data_begin + static_cast<std::size_t>(begin);
  tensor.bytes = static_cast<std::size_t>(end - begin);
  // The size of a type that is not known here cannot be checked; nothing can use it either.
  if (const DTypeName* dtype = find_dtype(tensor.dtype)) {
    const auto bits = total_bits(tensor, dtype->bits);
    if (!bits || *bits % 8 != 0 || *bits / 8 != tensor.bytes) {
      fail("{}: shape [{}] of {} does not take the {} bytes that data_offsets give it.", where,
           fmt::join(tensor.dims, ", "), tensor.dtype, tensor.bytes);
    }
  }
  return tensor;
}

void refuse_overlaps(const StoredTensors& tensors, std::string_view where) {
  std::vector<const StoredTensors::value_type*> sorted;
  for (const auto& named : tensors) {
    if (named.second.bytes > 0) sorted.push_back(&named);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](auto* a, auto* b) { return a->second.offset < b->second.offset; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const StoredTensor& before = sorted[i - 1]->second;
    if (before.offset + before.bytes > sorted[i]->second.offset) {
      fail("{}: tensors {} and {} overlap; the file is damaged.", where,
           shown(sorted[i - 1]->first), shown(sorted[i]->first));
    }
  }
}

/// A plain file name: an index must not make us read outside its directory.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

}  // namespace

std::optional<DType> StoredTensor::type() const {
  const DTypeName* known = find_dtype(dtype);
  return known ? known->type : std::nullopt;
}

StoredTensors parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  const auto length = static_cast<std::size_t>(read_header_length(file, where));
  const auto* text = reinterpret_cast<const char*>(file.data()) + length_bytes;
  const Json header = parse_header({text, length}, where);
  const std::size_t data_begin = length_bytes + length;
  StoredTensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    tensors.emplace(name, parse_entry(entry, fmt::format("{}: tensor {}", where, shown(name)),
                                      data_begin, file.size() - data_begin));
  }
  refuse_overlaps(tensors, where);
  return tensors;
}

SafetensorsDirectory::SafetensorsDirectory(const fs::path& directory) : directory_(directory) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(single)) {
    add_file(single);
  } else if (fs::exists(index)) {
    add_indexed(index);
  } else {
    fail(
        "{}: no weights found; a file model.safetensors or model.safetensors.index.json was "
        "expected (other formats must be converted to safetensors first).",
        directory.string());
  }
}

const SafetensorsDirectory::Entry* SafetensorsDirectory::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

std::shared_ptr<const FileMap> SafetensorsDirectory::open(const fs::path& file) {
  files_.push_back(std::make_shared<const FileMap>(file));
  return files_.back();
}

void SafetensorsDirectory::add_file(const fs::path& path) {
  const auto file = open(path);
  for (auto& [name, tensor] : parse_safetensors(file->bytes(), path.string())) {
    entries_.emplace(name, Entry{tensor, file});
  }
}

void SafetensorsDirectory::add_indexed(const fs::path& index) {
  const std::string where = index.string();
  const Json json = parse_json_file(index);
  // Each file's header is read once, then each listed tensor is looked up in its file.
  std::map<std::string, std::pair<std::shared_ptr<const FileMap>, StoredTensors>> shards;
  for (const auto& [name, value] : get_object(json, "weight_map", where).items()) {
    const std::string file_name = to_text(value, name, where);
    if (!is_plain_name(file_name)) {
      fail("{}: tensor {} is said to be in {}; a file name in the same directory was expected.",
           where, shown(name), shown(file_name));
    }
    auto shard = shards.find(file_name);
    if (shard == shards.end()) {
      const fs::path path = directory_ / file_name;
      if (!fs::exists(path)) {
        fail("{}: the index lists this file, but it does not exist; download it too.",
             path.string());
      }
      auto file = open(path);
      StoredTensors tensors = parse_safetensors(file->bytes(), path.string());
      shard = shards.emplace(file_name, std::pair(std::move(file), std::move(tensors))).first;
    }
    const auto& [file, tensors] = shard->second;
    const auto tensor = tensors.find(name);
    if (tensor == tensors.end()) {
      fail("{}: tensor {} is said to be in {}, but that file does not have it.", where, shown(name),
           file_name);
    }
    entries_.emplace(name, Entry{tensor->second, file});
  }
}

}  // namespace fastkv
