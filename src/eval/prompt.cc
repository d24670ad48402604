#include "eval/prompt.h"

#include <algorithm>

#include "core/error.h"
#include "metrics/python_text.h"
#include "tasks/truncate.h"

namespace fastkv {
namespace {

std::string render(const std::string& system, const std::string& user, const Text& text) {
  std::vector<ChatMessage> messages = {{"user", user}};
  if (system.empty()) return text.render_chat(messages);
  messages.insert(messages.begin(), {"system", system});
  try {
    return text.render_chat(messages);
  } catch (const Error&) {
    // Templates without system messages refuse them; such models are told in the user's turn.
    messages = {{"user", system + "\n\n" + user}};
    return text.render_chat(messages);
  }
}

/// A prompt's text, and where in it the question begins.
struct Rendered {
  std::string text;
  std::size_t question = 0;
};
Rendered render(const Sample& sample, const Text& text) {
  const std::string user = sample.context + sample.question;
  if (!sample.chat || !text.has_chat_template()) {
    return {user + sample.answer_prefix, sample.context.size()};
  }
  const std::string whole = render(sample.system, user, text);
  // Many templates strip a turn. What is left of it stands in the text, the last time it occurs.
  const std::string_view left = python_strip(user);
  const auto stripped = static_cast<std::size_t>(left.data() - user.data());
  const std::size_t at = whole.rfind(left);
  if (at == std::string::npos) {
    fail(
        "the model's chat template changes the user's text, so the question cannot be found in it");
  }
  const std::size_t offset = std::max(sample.context.size(), stripped) - stripped;
  return {whole + sample.answer_prefix, at + std::min(offset, left.size())};
}

/// Splits the ids of the whole text, so that the model sees the same tokens as with the question at
/// once. A token that reaches over the border goes with the question.
std::size_t ids_before(const Rendered& prompt, const std::vector<TokenId>& ids, const Text& text) {
  const std::vector<TokenId> before =
      text.encode(std::string_view(prompt.text).substr(0, prompt.question));
  const auto [end, ignored] = std::mismatch(ids.begin(), ids.end(), before.begin(), before.end());
  return static_cast<std::size_t>(end - ids.begin());
}

/// As Hugging Face's tokenizers do with add_special_tokens: a BOS whatever the text begins with,
/// so a rendered chat gets a second one.
std::vector<TokenId> encode_like_reference(std::string_view text, const Text& tokenizer) {
  std::vector<TokenId> ids = tokenizer.encode("", /*bos=*/true);
  const std::vector<TokenId> rest = tokenizer.encode(text, /*bos=*/false);
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

/// The reference cuts the rendered prompt, and what special tokens were in it are lost by that.
Prompt reference_prompt(const Sample& sample, const Text& text, const PromptLimits& limits) {
  Prompt prompt{encode_like_reference(render(sample, text).text, text), {}, false};
  for (std::int64_t limit = limits.text > 0 ? std::min(limits.text, limits.whole) : limits.whole;
       static_cast<std::int64_t>(prompt.ids.size()) > limit; --limit) {
    const auto half = static_cast<std::size_t>(limit / 2);
    const std::span<const TokenId> ids(prompt.ids);
    prompt = {
        encode_like_reference(text.decode(ids.first(half)) + text.decode(ids.last(half)), text),
        {},
        true};
    // Encoded again it may be a few tokens longer; the reference does not look, a model's end does.
    if (static_cast<std::int64_t>(prompt.ids.size()) <= limits.whole) break;
  }
  return prompt;
}

}  // namespace

Protocol parse_protocol(std::string_view name) {
  if (name == "query-aware") return Protocol::query_aware;
  if (name == "query-agnostic") return Protocol::query_agnostic;
  if (name == "reference") return Protocol::reference;
  fail("there is no protocol '{}'; the protocols are query-aware, query-agnostic, reference", name);
}

std::string describe(Protocol protocol) {
  switch (protocol) {
    case Protocol::query_aware:
      return "query-aware: context and question are compressed together; one BOS; greedy";
    case Protocol::query_agnostic:
      return "query-agnostic: the context is compressed before the question is seen; one BOS; "
             "greedy";
    case Protocol::reference:
      return "reference: as FastKV's scripts; a BOS before that of the chat template, prompts cut "
             "to the length that they give a model or method, selection by query head where there "
             "is a choice; greedy";
  }
  return "";
}

Codec make_codec(const Text& text) {
  Codec codec{.encode = [&text](std::string_view s) { return text.encode(s, /*bos=*/false); },
              .decode = [&text](std::span<const TokenId> ids) { return text.decode(ids); }};
  codec.template_tokens = static_cast<std::int64_t>(text.encode("").size());
  if (text.has_chat_template()) {
    const auto around = static_cast<std::int64_t>(text.encode(render("", "x", text)).size());
    codec.template_tokens = around - codec.count("x");
  }
  return codec;
}

Prompt make_prompt(const Sample& sample, const Text& text, Protocol protocol,
                   const PromptLimits& limits) {
  if (protocol == Protocol::reference) return reference_prompt(sample, text, limits);
  const Codec codec = make_codec(text);
  std::int64_t limit = limits.text > 0 ? limits.text : limits.whole;
  while (true) {
    Sample fitted = sample;
    truncate_middle(fitted, limit, codec);
    const Rendered rendered = render(fitted, text);
    std::vector<TokenId> ids = text.encode(rendered.text);
    const std::int64_t excess = static_cast<std::int64_t>(ids.size()) - limits.whole;
    if (excess > 0) {  // what stands around the text had no room, or the cut text got longer
      if (limit <= 1) fail("the model has no room for a prompt and its answer");
      limit = std::max<std::int64_t>(
          std::min(limit, codec.count(sample.context + sample.question)) - excess, 1);
      continue;
    }
    const bool truncated = fitted.context.size() + fitted.question.size() <
                           sample.context.size() + sample.question.size();
    if (protocol == Protocol::query_aware) return {std::move(ids), {}, truncated};
    const std::size_t before = ids_before(rendered, ids, text);
    // Without any context there is nothing to compress but the question.
    if (before <= text.encode("").size()) return {std::move(ids), {}, truncated};
    const auto border = ids.begin() + static_cast<std::ptrdiff_t>(before);
    return {{ids.begin(), border}, {border, ids.end()}, truncated};
  }
}

}  // namespace fastkv
