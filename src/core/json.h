#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

// The border between JSON files and the engine. Every function throws Error with a sentence that
// names the file (`where`) and the field. Include <nlohmann/json.hpp> only in .cc files.

namespace fastkv {

using Json = nlohmann::json;

/// Parses `text`; `what` names it in messages ("config.json"). Refuses nesting deeper than 128.
Json parse_json(std::string_view text, std::string_view what);
/// Reads and parses a file.
Json parse_json_file(const std::filesystem::path& path);
/// The whole file as bytes; throws Error when it cannot be read.
std::string read_text_file(const std::filesystem::path& path);

/// The field's value; throws when it is missing or of another type. Integers must be written as
/// integers and fit 64 bits; numbers may be written either way.
std::int64_t get_int(const Json& object, std::string_view key, std::string_view where);
double get_number(const Json& object, std::string_view key, std::string_view where);
bool get_bool(const Json& object, std::string_view key, std::string_view where);
std::string get_string(const Json& object, std::string_view key, std::string_view where);
const Json& get_object(const Json& object, std::string_view key, std::string_view where);
const Json& get_array(const Json& object, std::string_view key, std::string_view where);

/// The same for fields that may be missing or null; a wrong type still throws.
std::optional<std::int64_t> find_int(const Json& object, std::string_view key,
                                     std::string_view where);
std::optional<double> find_number(const Json& object, std::string_view key, std::string_view where);
std::optional<bool> find_bool(const Json& object, std::string_view key, std::string_view where);
std::optional<std::string> find_string(const Json& object, std::string_view key,
                                       std::string_view where);
/// The field whatever its type; nullptr when it is missing or null.
const Json* find_field(const Json& object, std::string_view key, std::string_view where);

/// The value itself, of a field called `key` in messages; throws when it is of another type.
std::int64_t to_int(const Json& value, std::string_view key, std::string_view where);
std::string to_text(const Json& value, std::string_view key, std::string_view where);

}  // namespace fastkv
