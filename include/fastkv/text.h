#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/chat_message.h"
#include "fastkv/error.h"

namespace fastkv {

using TokenId = std::int32_t;

/// A checkpoint's tokenizer and chat template.
class Text {
 public:
  /// Reads tokenizer.json (or tokenizer.model) and tokenizer_config.json of a checkpoint directory.
  explicit Text(const std::string& directory);
  ~Text();
  Text(Text&&) noexcept;
  Text& operator=(Text&&) noexcept;
  /// Whether the directory has a tokenizer.
  static bool present_in(const std::string& directory);

  /// Ids of UTF-8 text; special tokens' names in it count as these tokens. With `bos` exactly one
  /// beginning-of-sequence token stands in front, where the model has one.
  std::vector<TokenId> encode(std::string_view text, bool bos = true) const;
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;
  std::int64_t vocab_size() const;
  /// The tokenizer's own end token, where it names one; a model may end its answers by others.
  std::optional<TokenId> end_token() const;

  bool has_chat_template() const;
  /// The text that the model's chat template makes of the messages. Throws Error where there is no
  /// template, or the template refuses the messages.
  std::string render_chat(std::span<const ChatMessage> messages,
                          bool add_generation_prompt = true) const;

 private:
  friend class Session;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fastkv
