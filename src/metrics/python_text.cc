#include "metrics/python_text.h"

#include <unicode/ucasemap.h>
#include <unicode/uchar.h>

#include <charconv>
#include <memory>

#include "core/error.h"
#include "core/utf8.h"

namespace fastkv {
namespace {

using CaseMapper = int32_t (*)(const UCaseMap*, char*, int32_t, const char*, int32_t, UErrorCode*);

std::string map_case(std::string_view text, CaseMapper mapper) {
  // The root locale: the mappings that no language changes.
  static const std::unique_ptr<UCaseMap, decltype(&ucasemap_close)> root = [] {
    UErrorCode error = U_ZERO_ERROR;
    return std::unique_ptr<UCaseMap, decltype(&ucasemap_close)>(ucasemap_open("", 0, &error),
                                                                ucasemap_close);
  }();
  // A mapping at most triples the bytes (U+0390 and its like in upper case).
  std::string out(3 * text.size(), '\0');
  UErrorCode error = U_ZERO_ERROR;
  const int32_t length = mapper(root.get(), out.data(), static_cast<int32_t>(out.size()),
                                text.data(), static_cast<int32_t>(text.size()), &error);
  if (U_FAILURE(error) && error != U_STRING_NOT_TERMINATED_WARNING) {
    fail("changing the case of a text of {} bytes failed ({}).", text.size(), u_errorName(error));
  }
  out.resize(static_cast<std::size_t>(length));
  return out;
}

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_python_word(char32_t c) {
  if (c == U'_') return true;
  const auto mask = U_GET_GC_MASK(static_cast<UChar32>(c));
  return (mask & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

bool is_python_digit(char32_t c) {
  return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER;
}

std::string python_lower(std::string_view text) {
  if (!is_ascii(text)) return map_case(text, ucasemap_utf8ToLower);
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return out;
}

std::string python_upper(std::string_view text) { return map_case(text, ucasemap_utf8ToUpper); }

std::string_view python_strip(std::string_view text) {
  std::size_t begin = text.size();
  std::size_t end = 0;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    if (!is_python_space(c.value)) {
      if (begin == text.size()) begin = i;
      end = i + c.length;
    }
    i += c.length;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::vector<std::string> python_split(std::string_view text) {
  std::vector<std::string> pieces;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size();) {
    const CodePoint c = i < text.size() ? decode_utf8(text, i) : CodePoint{U' ', 1, true};
    if (is_python_space(c.value)) {
      if (i > begin) pieces.emplace_back(text.substr(begin, i - begin));
      begin = i + c.length;
    }
    i += c.length;
  }
  return pieces;
}

double python_round(double value, int digits) {
  // Printed with that many decimals (exactly rounded) and read again.
  char buffer[400];
  const auto printed =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, digits);
  double rounded = value;
  std::from_chars(buffer, printed.ptr, rounded);
  return rounded;
}

std::u32string to_code_points(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    out.push_back(c.value);
    i += c.length;
  }
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

}  // namespace fastkv
