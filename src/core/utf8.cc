#include "core/utf8.h"

namespace fastkv {
namespace {

constexpr char32_t replacement = 0xFFFD;

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

struct Lead {
  int following = -1;               // continuation bytes; -1: not a lead byte
  unsigned char low = 0, high = 0;  // allowed range of the first continuation byte
  unsigned char bits = 0;           // payload of the lead byte
};

Lead classify(unsigned char b) {
  if (b < 0x80) return {0, 0, 0, b};
  if (b >= 0xC2 && b <= 0xDF) return {1, 0x80, 0xBF, static_cast<unsigned char>(b & 0x1F)};
  if (b >= 0xE0 && b <= 0xEF) {
    const unsigned char low = b == 0xE0 ? 0xA0 : 0x80;   // below: overlong
    const unsigned char high = b == 0xED ? 0x9F : 0xBF;  // above: surrogates
    return {2, low, high, static_cast<unsigned char>(b & 0x0F)};
  }
  if (b >= 0xF0 && b <= 0xF4) {
    const unsigned char low = b == 0xF0 ? 0x90 : 0x80;   // below: overlong
    const unsigned char high = b == 0xF4 ? 0x8F : 0xBF;  // above: beyond U+10FFFF
    return {3, low, high, static_cast<unsigned char>(b & 0x07)};
  }
  return {};
}

}  // namespace

CodePoint decode_utf8(std::string_view text, std::size_t offset) {
  const Lead lead = classify(byte_at(text, offset));
  if (lead.following < 0) return {replacement, 1, false};
  char32_t value = lead.bits;
  std::size_t length = 1;
  for (int i = 0; i < lead.following; ++i, ++length) {
    if (offset + length >= text.size()) return {replacement, length, false};
    const unsigned char b = byte_at(text, offset + length);
    const unsigned char low = i == 0 ? lead.low : 0x80;
    const unsigned char high = i == 0 ? lead.high : 0xBF;
    if (b < low || b > high) return {replacement, length, false};
    value = (value << 6) | (b & 0x3Fu);
  }
  return {value, length, true};
}

std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (byte_at(text, i) < 0x80) {
      ++i;
      continue;
    }
    const CodePoint c = decode_utf8(text, i);
    if (!c.valid) return i;
    i += c.length;
  }
  return std::string_view::npos;
}

std::size_t incomplete_utf8_tail(std::string_view text) {
  // A sequence has at most three bytes after its lead byte, so look at the last three bytes.
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const Lead lead = classify(byte_at(text, text.size() - back));
    if (lead.following < 0) continue;
    if (static_cast<std::size_t>(lead.following) < back) return 0;
    const CodePoint c = decode_utf8(text, text.size() - back);
    return !c.valid && c.length == back ? back : 0;
  }
  return 0;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t b) { out.push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    if (c.valid) {
      out.append(text, i, c.length);
    } else {
      append_utf8(out, replacement);
    }
    i += c.length;
  }
  return out;
}

std::size_t count_code_points(std::string_view text) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < text.size(); ++n) i += decode_utf8(text, i).length;
  return n;
}

}  // namespace fastkv
