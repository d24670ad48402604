#include "text/normalizer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"
#include "text/pre_tokenizer.h"

namespace fastkv {
namespace {

std::string replace_all(const Regex& pattern, std::string_view text, std::string_view content) {
  std::string out;
  std::size_t done = 0, from = 0;
  while (from <= text.size()) {
    const auto m = pattern.find(text, from);
    if (!m) break;
    out.append(text, done, m->begin - done);
    out += content;
    done = from = m->end;
    if (m->end == m->begin) {
      if (from >= text.size()) break;
      from += decode_utf8(text, from).length;
    }
  }
  out.append(text, done);
  return out;
}

std::string replace_all(std::string_view from, std::string_view text, std::string_view content) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += content;
    done = at + from.size();
  }
  return out.append(text, done);
}

}  // namespace

Normalizer::Normalizer(const Json* value, std::string_view where) {
  if (value) add(*value, where);
}

Normalizer Normalizer::sentencepiece(bool add_dummy_prefix) {
  Normalizer n;
  if (add_dummy_prefix) n.steps_.emplace_back(Prepend{"\u2581"});
  n.steps_.emplace_back(Replace{" ", Regex::literal(" "), "\u2581"});
  return n;
}

void Normalizer::add(const Json& value, std::string_view where) {
  const std::string type = get_string(value, "type", where);
  if (type == "Sequence") {
    for (const Json& step : get_array(value, "normalizers", where)) add(step, where);
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{get_string(value, "prepend", where)});
  } else if (type == "Replace") {
    const auto text = find_string(get_object(value, "pattern", where), "String", where);
    steps_.emplace_back(Replace{text.value_or(""), read_pattern(value, where),
                                get_string(value, "content", where)});
  } else {
    fail("{}: normalizer \"{}\" is not supported; supported are Prepend, Replace and Sequence.",
         where, type);
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string current(text);
  for (const Step& step : steps_) {
    if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!current.empty()) current.insert(0, prepend->text);
    } else {
      const auto& [from, pattern, content] = std::get<Replace>(step);
      current = from.empty() ? replace_all(pattern, current, content)
                             : replace_all(from, current, content);
    }
  }
  return current;
}

}  // namespace fastkv
