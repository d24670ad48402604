// A chat template, run on a short conversation with a small allowance of work. It must end, with
// text in valid UTF-8 or an Error.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/utf8.h"
#include "fastkv/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::array<fastkv::ChatMessage, 3> messages = {
      {{"system", " be kind "}, {"user", "h\u00e9llo\n"}, {"assistant", ""}}};
  try {
    const fastkv::ChatTemplate chat({reinterpret_cast<const char*>(data), size}, "<s>", "</s>");
    for (const bool add_generation_prompt : {false, true}) {
      const std::string text = chat.render(messages, add_generation_prompt, /*work=*/1 << 20);
      if (!fastkv::is_valid_utf8(text)) __builtin_trap();
    }
  } catch (const fastkv::Error&) {
  }
  return 0;
}
