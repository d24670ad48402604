#include "core/json.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"

namespace fastkv {
namespace {

constexpr int max_depth = 128;

/// nlohmann's tree is copied and compared recursively, so deep nesting is refused beforehand.
void check_depth(std::string_view text, std::string_view what) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) {
        fail("{}: JSON is nested deeper than {} levels; no such file is expected here.", what,
             max_depth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

[[noreturn]] void wrong_type(const Json& value, std::string_view key, std::string_view expected,
                             std::string_view where) {
  std::string shown = value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
  fail("{}: field \"{}\" must be {}, but it is {}.", where, key, expected, shown);
}

const Json& require(const Json& object, std::string_view key, std::string_view expected,
                    std::string_view where) {
  const Json* value = find_field(object, key, where);
  if (!value) fail("{}: field \"{}\" is missing; it must be {}.", where, key, expected);
  return *value;
}

double to_number(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_number()) wrong_type(value, key, "a number", where);
  return value.get<double>();
}

bool to_bool(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_boolean()) wrong_type(value, key, "true or false", where);
  return value.get<bool>();
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  check_depth(text, what);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    // The library's message begins with its own error number, "[json.exception...] ".
    std::string_view reason = e.what();
    const std::size_t end = reason.find("] ");
    if (end != std::string_view::npos) reason.remove_prefix(end + 2);
    fail("{}: this is not valid JSON ({}).", what, replace_invalid_utf8(reason));
  } catch (const Json::out_of_range&) {
    fail("{}: a number in this JSON does not fit the range of a double.", what);
  }
}

std::string read_text_file(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    fail("{}: this is a directory, a file was expected.", path.string());
  }
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) fail("{}: cannot open this file; check that it exists and is readable.", path.string());
  const std::streamoff size = in.tellg();
  std::string text(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
  in.seekg(0);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (size < 0 || !in) fail("{}: reading this file failed.", path.string());
  return text;
}

Json parse_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path), path.string());
}

const Json* find_field(const Json& object, std::string_view key, std::string_view where) {
  if (!object.is_object()) {
    fail("{}: a JSON object with a field \"{}\" was expected, but this is of type {}.", where, key,
         object.type_name());
  }
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t to_int(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_number_integer()) wrong_type(value, key, "an integer", where);
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    wrong_type(value, key, "an integer of 64 bits", where);
  }
  return value.get<std::int64_t>();
}

std::string to_text(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_string()) wrong_type(value, key, "a string", where);
  return value.get<std::string>();
}

std::int64_t get_int(const Json& object, std::string_view key, std::string_view where) {
  return to_int(require(object, key, "an integer", where), key, where);
}
double get_number(const Json& object, std::string_view key, std::string_view where) {
  return to_number(require(object, key, "a number", where), key, where);
}
bool get_bool(const Json& object, std::string_view key, std::string_view where) {
  return to_bool(require(object, key, "true or false", where), key, where);
}
std::string get_string(const Json& object, std::string_view key, std::string_view where) {
  return to_text(require(object, key, "a string", where), key, where);
}
const Json& get_object(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = require(object, key, "an object", where);
  if (!value.is_object()) wrong_type(value, key, "an object", where);
  return value;
}
const Json& get_array(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = require(object, key, "an array", where);
  if (!value.is_array()) wrong_type(value, key, "an array", where);
  return value;
}

std::optional<std::int64_t> find_int(const Json& object, std::string_view key,
                                     std::string_view where) {
  const Json* value = find_field(object, key, where);
  return value ? std::optional(to_int(*value, key, where)) : std::nullopt;
}
std::optional<double> find_number(const Json& object, std::string_view key,
                                  std::string_view where) {
  const Json* value = find_field(object, key, where);
  return value ? std::optional(to_number(*value, key, where)) : std::nullopt;
}
std::optional<bool> find_bool(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = find_field(object, key, where);
  return value ? std::optional(to_bool(*value, key, where)) : std::nullopt;
}
std::optional<std::string> find_string(const Json& object, std::string_view key,
                                       std::string_view where) {
  const Json* value = find_field(object, key, where);
  return value ? std::optional(to_text(*value, key, where)) : std::nullopt;
}

}  // namespace fastkv
