#include "text/token_decoder.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/byte_level.h"

namespace fastkv {
namespace {

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += to;
    done = at + from.size();
  }
  return out.append(text, done);
}

}  // namespace

int byte_of_fallback_token(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return -1;
  int byte = -1;
  const auto [end, error] = std::from_chars(name.data() + 3, name.data() + 5, byte, 16);
  return error == std::errc() && end == name.data() + 5 && byte >= 0 ? byte : -1;
}

TokenDecoder::TokenDecoder(const Json* value, std::string_view where) {
  if (!value) {
    fail("{}: field \"decoder\" is missing; without it tokens cannot be turned into text.", where);
  }
  add(*value, where);
}

void TokenDecoder::reach(Stage stage, std::string_view type, std::string_view where) {
  if (stage_ > stage) {
    fail(
        "{}: decoder {} at this place is not supported; the supported order is Replace, "
        "ByteFallback or ByteLevel, Fuse, Strip.",
        where, type);
  }
  stage_ = stage;
}

void TokenDecoder::add(const Json& value, std::string_view where) {
  const std::string type = get_string(value, "type", where);
  if (type == "Sequence") {
    for (const Json& step : get_array(value, "decoders", where)) add(step, where);
  } else if (type == "ByteLevel") {
    reach(Stage::bytes, type, where);
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    reach(Stage::bytes, type, where);
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    reach(Stage::fuse, type, where);
  } else if (type == "Replace") {
    reach(Stage::replace, type, where);
    const auto text = find_string(get_object(value, "pattern", where), "String", where);
    if (!text || text->empty()) {
      fail("{}: decoder Replace is supported only with a pattern {{\"String\": ...}}.", where);
    }
    replacements_.emplace_back(*text, get_string(value, "content", where));
  } else if (type == "Metaspace") {
    reach(Stage::replace, type, where);
    replacements_.emplace_back(find_string(value, "replacement", where).value_or("\u2581"), " ");
    const bool prefix = find_bool(value, "add_prefix_space", where).value_or(true);
    if (find_string(value, "prepend_scheme", where).value_or(prefix ? "always" : "never") !=
        "never") {
      strip_ = 1;
    }
    stage_ = Stage::strip;
  } else if (type == "Strip") {
    if (stage_ != Stage::fuse) {
      fail("{}: decoder Strip is supported only right after Fuse.", where);
    }
    reach(Stage::strip, type, where);
    const auto start = get_int(value, "start", where);
    if (get_string(value, "content", where) != " " || get_int(value, "stop", where) != 0 ||
        start < 0 || start > 16) {
      fail("{}: decoder Strip is supported only for spaces at the beginning of the text.", where);
    }
    strip_ = static_cast<int>(start);
  } else {
    fail(
        "{}: decoder \"{}\" is not supported; supported are ByteLevel, ByteFallback, Replace, "
        "Metaspace, Fuse, Strip and Sequence.",
        where, type);
  }
}

std::string TokenDecoder::bytes_of(std::string_view name) const {
  std::string text(name);
  for (const auto& [from, to] : replacements_) text = replace_all(text, from, to);
  if (byte_fallback_) {
    if (const int byte = byte_of_fallback_token(text); byte >= 0) {
      return std::string(1, static_cast<char>(byte));
    }
  }
  if (byte_level_) {
    if (auto bytes = bytes_of_spelling(text)) return *std::move(bytes);
  }
  return text;
}

}  // namespace fastkv
