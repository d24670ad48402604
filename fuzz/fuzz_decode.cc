// Prompt bytes and token ids. Bytes that are not UTF-8 are refused, others come back from encoding
// unchanged; any ids stream as valid UTF-8 that adds up to what they decode to at once.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/utf8.h"
#include "fastkv/error.h"
#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace {

void check(bool holds) {
  if (!holds) __builtin_trap();
}

/// Byte-level with a few merges; `prefix`: SentencePiece's decoder, which takes a leading space.
fastkv::Tokenizer make_tokenizer(bool prefix) {
  std::string vocab;
  for (int b = 0; b < 256; ++b) {
    std::string name = fastkv::spelling_of_bytes(std::string(1, static_cast<char>(b)));
    if (name == "\"" || name == "\\") name.insert(0, "\\");
    vocab += "\"" + name + "\":" + std::to_string(b) + ",";
  }
  const std::string decoder =
      prefix ? R"({"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"Fuse"},
                  {"type":"Strip","content":" ","start":1,"stop":0}]})"
             : R"({"type":"ByteLevel"})";
  return fastkv::Tokenizer::from_json(
      R"({"model":{"type":"BPE","vocab":{)" + vocab +
          "\"\u0120a\":256,\"\u00e9\u00c4\":257},\"merges\":[\"\u0120 a\"]}," +
          R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":)" + decoder +
          R"(,"added_tokens":[{"id":258,"content":"<s>","special":true,"normalized":false}]})",
      "tokenizer.json");
}

void check_stream(const fastkv::Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  for (const bool skip_special : {false, true}) {
    fastkv::StreamDecoder decoder(tokenizer, {.skip_special = skip_special});
    std::string streamed;
    for (const std::int32_t id : ids) {
      const std::string part = decoder.add(id);
      check(fastkv::is_valid_utf8(part));
      streamed += part;
    }
    streamed += decoder.finish();
    check(fastkv::is_valid_utf8(streamed));
    check(streamed == tokenizer.decode(ids, skip_special));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fastkv::Tokenizer plain = make_tokenizer(false);
  static const fastkv::Tokenizer prefixed = make_tokenizer(true);
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < size; ++i) {
    // 0xFE begins an id above the bytes, so that all 259 can be spelled.
    ids.push_back(data[i] == 0xFE && i + 1 < size ? 256 + data[++i] % 3 : data[i]);
  }
  check_stream(plain, ids);
  check_stream(prefixed, ids);

  const std::size_t bad = fastkv::find_invalid_utf8(text);
  const std::string mended = fastkv::replace_invalid_utf8(text);
  check(fastkv::is_valid_utf8(mended));
  check((bad == std::string_view::npos) == (mended == text));
  check(fastkv::incomplete_utf8_tail(text) <= 3);
  try {
    check(plain.decode(plain.encode(text, fastkv::Special::parse), false) == text);
    check(bad == std::string_view::npos);
  } catch (const fastkv::Error&) {
    check(bad != std::string_view::npos);
  }
  return 0;
}
