#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// UTF-8 as the Unicode standard defines it (table 3-7): no overlong forms, no surrogates, nothing
// above U+10FFFF.

namespace fastkv {

/// One decoded code point and the number of bytes it took.
struct CodePoint {
  char32_t value = 0;
  std::size_t length = 0;  // 1 to 4 bytes
  bool valid = false;      // false: `length` bytes are a maximal ill-formed part, value is U+FFFD
};

/// The code point that begins at `offset` (< text.size()). An ill-formed sequence is taken as far
/// as it could still have become a valid one, at least one byte, as most decoders do.
CodePoint decode_utf8(std::string_view text, std::size_t offset);

/// Offset of the first byte that is not part of a well-formed sequence; npos when all is well.
std::size_t find_invalid_utf8(std::string_view text);

inline bool is_valid_utf8(std::string_view text) {
  return find_invalid_utf8(text) == std::string_view::npos;
}

/// Bytes at the end of `text` (0 to 3) that begin a sequence which more bytes could complete.
std::size_t incomplete_utf8_tail(std::string_view text);

/// Appends a code point (a Unicode scalar value) to `out`.
void append_utf8(std::string& out, char32_t code_point);

/// The text with each ill-formed part replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

/// Number of code points; an ill-formed part counts as one.
std::size_t count_code_points(std::string_view text);

/// Bytes of the sequence that `lead` begins; 1 for bytes that cannot begin one.
constexpr std::size_t utf8_length(unsigned char lead) {
  return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 1;
}

}  // namespace fastkv
