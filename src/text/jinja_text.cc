#include "text/jinja_text.h"

#include "core/error.h"
#include "core/utf8.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace fastkv::jinja {
namespace {

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

std::size_t last_character(std::string_view text) {
  std::size_t i = text.size() - 1;
  while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
  return i;
}

template <class Drop>
std::string_view trim_if(std::string_view text, bool left, bool right, const Drop& drop) {
  while (left && !text.empty()) {
    const CodePoint c = decode_utf8(text, 0);
    if (!drop(c.value)) break;
    text.remove_prefix(c.length);
  }
  while (right && !text.empty()) {
    const std::size_t last = last_character(text);
    if (!drop(decode_utf8(text, last).value)) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
char upper(char c) { return is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c; }
char lower(char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

/// Case is changed by ASCII's rules; text that other rules would change is refused.
void refuse_other_cases(std::string_view text) {
  static const Regex cased(R"([\p{Lu}\p{Ll}\p{Lt}])", "chat template");
  for (std::size_t i = 0; i < text.size(); i += decode_utf8(text, i).length) {
    if (static_cast<unsigned char>(text[i]) < 0x80) continue;
    const std::string_view c = text.substr(i, decode_utf8(text, i).length);
    if (cased.find(c, 0)) {
      fail("Chat template: changing the case of \"{}\" is not supported; only ASCII letters are.",
           c);
    }
  }
}

}  // namespace

std::string_view trimmed(std::string_view text, bool left, bool right) {
  return trim_if(text, left, right, is_python_space);
}

std::string_view trimmed(std::string_view text, bool left, bool right,
                         std::string_view characters) {
  return trim_if(text, left, right, [&](char32_t c) {
    for (std::size_t i = 0; i < characters.size();) {
      const CodePoint d = decode_utf8(characters, i);
      if (d.value == c) return true;
      i += d.length;
    }
    return false;
  });
}

std::vector<std::size_t> code_point_offsets(std::string_view text) {
  std::vector<std::size_t> offsets;
  for (std::size_t i = 0; i < text.size(); i += decode_utf8(text, i).length) offsets.push_back(i);
  offsets.push_back(text.size());
  return offsets;
}

std::string to_upper(std::string_view text) {
  refuse_other_cases(text);
  std::string out(text);
  for (char& c : out) c = upper(c);
  return out;
}

std::string to_lower(std::string_view text) {
  refuse_other_cases(text);
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

std::string capitalized(std::string_view text, bool each_word) {
  refuse_other_cases(text);
  std::string out(text);
  bool start = true;
  for (char& c : out) {
    c = start ? upper(c) : lower(c);
    start = each_word && !is_upper(c) && !is_lower(c);
  }
  return out;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to,
                     std::int64_t count, std::size_t max_size) {
  std::string out;
  const auto append = [&](std::string_view part) {
    if (part.size() > max_size - out.size()) fail("Chat template: a string becomes too long.");
    out += part;
  };
  if (from.empty()) fail("Chat template: replacing the empty string is not supported.");
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos && count != 0;
       at = text.find(from, done), --count) {
    append(text.substr(done, at - done));
    append(to);
    done = at + from.size();
  }
  append(text.substr(done));
  return out;
}

}  // namespace fastkv::jinja
