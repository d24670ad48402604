#include <fmt/core.h>

#include <algorithm>

#include "tasks/ruler_generators.h"
#include "tasks/ruler_size.h"
#include "tasks/ruler_text.h"

// Variable tracking: which variables have a value that is handed on in a chain.

namespace fastkv {
namespace {

constexpr std::int64_t chain_length = 5;  // four hops

/// Chains in noise, without a worked example before them.
class Chains : public RulerGenerator {
 public:
  Chains(std::int64_t step, std::size_t letters) : step_(step), letters_(letters) {}

  RulerGrowth growth() const override {
    return {.least = chain_length, .low = step_, .step = step_, .probe = 4 * step_};
  }

  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t) const override {
    Strings names;
    while (names.size() < chain_length) {
      std::string name;
      for (std::size_t i = 0; i < letters_; ++i) name += static_cast<char>('A' + random.below(26));
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    const std::int64_t value = random.between(10000, 99998);
    Strings statements = {fmt::format("VAR {} = {}", names[0], value)};
    for (std::size_t i = 1; i < names.size(); ++i) {
      // The space at the end is the reference's.
      statements.push_back(fmt::format("VAR {} = VAR {} ", names[i], names[i - 1]));
    }
    const Strings lines = insert_lines(Strings(static_cast<std::size_t>(size), noise_line),
                                       statements, /*in_order=*/true, random);
    return {
        .context =
            "Memorize and track the chain(s) of variable assignment hidden in the following "
            "text.\n\n" +
            join(lines, "\n"),
        .question = fmt::format(
            "\nQuestion: Find all variables that are assigned the value {} in the text above.",
            value),
        .answer_prefix = fmt::format(
            " Answer: According to the chain(s) of variable assignment in the text above, {} "
            "variables are assigned the value {}, they are: ",
            chain_length, value),
        .answers = names,
    };
  }

 private:
  std::int64_t step_;
  std::size_t letters_;
};

/// Chains after a worked example with shorter names.
class VariableTracking : public RulerGenerator {
 public:
  explicit VariableTracking(const RulerSetting& setting)
      : chains_(setting.context < 4096 ? 5 : 10, 5) {
    RulerSetting example = setting;
    example.tokens = 500;
    // RULER leaves no room for an answer here.
    example_size_ = fit_ruler_size(example_, example, /*answer_tokens=*/0, "vt example");
  }

  RulerGrowth growth() const override { return chains_.growth(); }

  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t index) const override {
    const RulerPrompt example = example_.draw(random, example_size_, index);
    RulerPrompt prompt = chains_.draw(random, size, index);
    prompt.context = example.context + example.question + example.answer_prefix + " " +
                     join(example.answers, " ") + "\n\n" + prompt.context;
    return prompt;
  }

 private:
  Chains example_{5, 3};
  Chains chains_;
  std::int64_t example_size_ = 0;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_ruler_variables(std::string_view,
                                                     const RulerSetting& setting) {
  return std::make_unique<VariableTracking>(setting);
}

}  // namespace fastkv
