#include "core/error.h"
#include "fastkv/engine.h"

namespace fastkv {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view space = " \t\r\n";
  const auto first = text.find_first_not_of(space);
  return first == std::string_view::npos
             ? ""
             : text.substr(first, text.find_last_not_of(space) - first + 1);
}

}  // namespace

Chat::Chat(const Engine& engine, Session& session, std::string system)
    : engine_(engine), session_(session) {
  if (!system.empty()) messages_.push_back({"system", std::move(system)});
}

Generation Chat::say(const std::string& text, const GenerateOptions& options,
                     const ProgressCallback& progress) {
  messages_.push_back({"user", text});
  std::string whole;
  try {
    whole = engine_.text().render_chat(messages_, /*add_generation_prompt=*/true);
    if (!whole.starts_with(rendered_)) {
      fail(
          "the model's chat template rewrites earlier turns (with a system message some do), so "
          "the "
          "cache cannot be kept; leave the system message out, or ask each question in a run of "
          "its own");
    }
    const std::string added = missing_ + whole.substr(rendered_.size());
    session_.append(engine_.text().encode(added, /*bos=*/rendered_.empty()), progress);
  } catch (...) {
    messages_.pop_back();
    if (session_.position() == 0) {  // memory has run out: the conversation starts anew
      rendered_.clear();
      missing_.clear();
    }
    throw;
  }
  // The end token was drawn and is pending in the session. An answer that was cut off lacks what
  // the template writes behind it.
  const auto close = [&](const std::string& answer, bool ended) {
    messages_.push_back({"assistant", answer});
    rendered_ = engine_.text().render_chat(messages_, /*add_generation_prompt=*/false);
    missing_.clear();
    if (ended) return;
    const std::string_view said = trim(answer);
    const std::size_t begin = rendered_.starts_with(whole) ? whole.size() : 0;
    if (const auto at = begin > 0 ? rendered_.find(said, begin) : rendered_.rfind(said);
        at != std::string::npos)
      missing_ = rendered_.substr(at + said.size());
  };
  Generation answer;
  try {
    answer = session_.generate(options);
  } catch (...) {
    close("", false);
    throw;
  }
  close(answer.text, answer.reason == FinishReason::end_token);
  return answer;
}

}  // namespace fastkv
