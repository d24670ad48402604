#include "eval/reference.h"

#include <string_view>
#include <utility>

#include "metrics/python_text.h"

namespace fastkv {

ReferenceRules reference_rules(const std::string& benchmark, const std::string& model_path,
                               const Text& text) {
  ReferenceRules rules;
  const std::string path = python_lower(model_path);
  const auto names = [&](std::string_view name) { return path.find(name) != path.npos; };
  // "meta-llama-3.1" has the name of llama-3, too: later ones count.
  static constexpr std::pair<std::string_view, std::int64_t> limits[] = {
      {"llama2", 3950},     {"llama-2", 3950},      {"llama3", 7950},      {"llama-3", 7950},
      {"mistral", 127'500}, {"ministral", 127'500}, {"llama-3.1", 127'500}};
  for (const auto& [name, limit] : limits) {
    if (names(name)) rules.prompt_tokens = limit;
  }
  rules.plain = benchmark == "needle" && (names("llama3") || names("llama-3"));
  if (benchmark == "ruler") rules.answer_tokens = 64;
  if (const auto end = text.end_token()) rules.end_ids.push_back(*end);
  return rules;
}

OptionValues reference_options(const std::string& benchmark) {
  // The beginning of the answer is in the user's turn.
  if (benchmark == "ruler") return {{"answer-prefix", "user"}};
  return {};
}

}  // namespace fastkv
