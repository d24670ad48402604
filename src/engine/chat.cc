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
  const auto forget_if_lost = [this] {
    if (session_.position() > 0) return;
    // Memory has run out: what was said goes into the session again with the next turn.
    rendered_.clear();
    missing_.clear();
  };
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
    forget_if_lost();
    throw;
  }
  // What the template writes behind the answer, and the session does not have: all of it where the
  // answer was cut off, else what follows the end token, which was drawn and is pending.
  const auto close = [&](const Generation& answer) {
    messages_.push_back({"assistant", answer.text});
    rendered_ = engine_.text().render_chat(messages_, /*add_generation_prompt=*/false);
    missing_.clear();
    const std::string_view said = trim(answer.text);
    const std::size_t begin = rendered_.starts_with(whole) ? whole.size() : 0;
    const auto at = begin > 0 ? rendered_.find(said, begin) : rendered_.rfind(said);
    if (at == std::string::npos) return;
    std::string_view rest = std::string_view(rendered_).substr(at + said.size());
    if (answer.reason == FinishReason::end_token) {
      const std::string end = engine_.text().decode(std::span(answer.ids).last(1), false);
      const auto found = rest.find(end);
      if (found == rest.npos) return;
      rest.remove_prefix(found + end.size());
    }
    missing_ = rest;
  };
  Generation answer;
  try {
    answer = session_.generate(options);
  } catch (...) {
    close({});
    forget_if_lost();
    throw;
  }
  close(answer);
  return answer;
}

}  // namespace fastkv
