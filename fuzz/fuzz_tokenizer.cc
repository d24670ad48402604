// A tokenizer.json, then a zero byte, then text to encode with it. What is refused must be refused
// with an Error; what is taken must encode any text and decode what it encoded.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/utf8.h"
#include "fastkv/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  const std::string_view json = input.substr(0, end);
  const std::string_view text =
      end == std::string_view::npos ? "a 1<s> \u00e9" : input.substr(end + 1).substr(0, 256);
  try {
    const fastkv::Tokenizer tokenizer = fastkv::Tokenizer::from_json(json, "tokenizer.json");
    for (const auto special : {fastkv::Special::parse, fastkv::Special::as_text}) {
      const auto ids = tokenizer.encode(text, special);
      if (!fastkv::is_valid_utf8(tokenizer.decode(ids, /*skip_special=*/false))) __builtin_trap();
    }
  } catch (const fastkv::Error&) {
  }
  return 0;
}
