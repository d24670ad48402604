#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fastkv/chat_message.h"

namespace fastkv {

/// A model's chat template: a Jinja template that spells messages out as the model was trained.
/// docs/tokenizers.md lists the language's parts that are taken. Const use is thread-safe.
class ChatTemplate {
 public:
  /// From chat_template.jinja of a checkpoint directory, or chat_template of its
  /// tokenizer_config.json (of several templates the one named "default"). Throws Error when there
  /// is none or it cannot be parsed.
  static ChatTemplate load(const std::filesystem::path& model_dir);
  /// The same, nothing when there is no template.
  static std::optional<ChatTemplate> find(const std::filesystem::path& model_dir);
  /// From a template's text and the spellings of the special tokens it may ask for.
  ChatTemplate(std::string_view source, std::string bos_token, std::string eos_token);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// The prompt's text, special tokens spelled out; encode it with Tokenizer::encode_prompt.
  /// `add_generation_prompt`: end where the assistant's answer begins. Throws Error when the
  /// template refuses the messages, uses something that is not supported, or does not come to an
  /// end after `work` steps and bytes (0: a limit that grows with the messages).
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                     std::int64_t work = 0) const;

 private:
  struct Data;
  std::unique_ptr<const Data> data_;
};

}  // namespace fastkv
