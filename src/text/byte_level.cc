#include "text/byte_level.h"

#include <array>

#include "core/utf8.h"

namespace fastkv {
namespace {

struct Table {
  std::array<char32_t, 256> character{};
  std::array<int, 512> byte{};  // -1: not in the table
};

constexpr Table make_table() {
  Table t;
  for (int& b : t.byte) b = -1;
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
    t.character[b] = printable ? b : next++;
    t.byte[t.character[b]] = static_cast<int>(b);
  }
  return t;
}

constexpr Table table = make_table();

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t i = 0; i < spelling.size();) {
    const CodePoint c = decode_utf8(spelling, i);
    if (c.value >= table.byte.size() || table.byte[c.value] < 0) return std::nullopt;
    bytes += static_cast<char>(table.byte[c.value]);
    i += c.length;
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (char b : bytes) append_utf8(spelling, table.character[static_cast<unsigned char>(b)]);
  return spelling;
}

}  // namespace fastkv
