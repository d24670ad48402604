#include "fastkv/text.h"

#include <filesystem>

#include "core/error.h"
#include "engine/state.h"

namespace fastkv {

Text::Text(const std::string& directory)
    : state_(std::make_unique<State>(
          State{directory, Tokenizer::load(directory), ChatTemplate::find(directory)})) {}
Text::~Text() = default;
Text::Text(Text&&) noexcept = default;
Text& Text::operator=(Text&&) noexcept = default;

bool Text::present_in(const std::string& directory) {
  const std::filesystem::path path(directory);
  return std::filesystem::exists(path / "tokenizer.json") ||
         std::filesystem::exists(path / "tokenizer.model");
}

std::vector<TokenId> Text::encode(std::string_view text, bool bos) const {
  return state_->tokenizer.encode_prompt(text, bos);
}

std::string Text::decode(std::span<const TokenId> ids, bool skip_special) const {
  return state_->tokenizer.decode(ids, skip_special);
}

std::int64_t Text::vocab_size() const { return state_->tokenizer.vocab_size(); }

std::optional<TokenId> Text::end_token() const { return state_->tokenizer.eos_id(); }

bool Text::has_chat_template() const { return state_->chat_template.has_value(); }

std::string Text::render_chat(std::span<const ChatMessage> messages,
                              bool add_generation_prompt) const {
  if (!state_->chat_template) {
    fail("{} has no chat template (tokenizer_config.json); give a plain prompt instead of a chat",
         state_->directory);
  }
  return state_->chat_template->render(messages, add_generation_prompt);
}

}  // namespace fastkv
