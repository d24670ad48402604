#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "tasks/ruler_generators.h"
#include "tasks/ruler_text.h"

// Questions about documents, a few of which have the answer.

namespace fastkv {
namespace {

class Questions : public RulerGenerator {
 public:
  explicit Questions(const QaSet& set) : set_(set) {}

  RulerGrowth growth() const override { return {.least = 1, .low = 10, .step = 10, .probe = 20}; }
  std::int64_t most_samples() const override {
    return static_cast<std::int64_t>(set_.questions.size());
  }

  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t index) const override {
    const QaSet::Question& question = set_.questions[static_cast<std::size_t>(index)];
    const auto chosen = choose(question, static_cast<std::size_t>(size), random);
    Strings documents;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      documents.push_back(fmt::format("Document {}:\n{}", i + 1, set_.documents[chosen[i]]));
    }
    const char* task =
        "Answer the question based on the given documents. Only give me the answer and do not "
        "output any other words.\n\n";
    return {
        .context =
            std::string(task) + "The following are given documents.\n\n" + join(documents, "\n\n"),
        .question = std::string("\n\n") + task + "Question: " + question.text,
        .answer_prefix = " Answer:",
        .answers = question.answers,
    };
  }

 private:
  std::vector<std::size_t> choose(const QaSet::Question& question, std::size_t size,
                                  Random& random) const {
    std::vector<std::size_t> chosen;
    if (size >= set_.documents.size()) {
      for (std::size_t i = 0; i < size; ++i) chosen.push_back(i % set_.documents.size());
    } else {
      chosen = question.gold;  // never left out, even where they are more than wanted
      const std::size_t open = size > chosen.size() ? size - chosen.size() : 0;
      if (open > question.more.size()) {
        chosen.insert(chosen.end(), question.more.begin(), question.more.end());
        add_others(chosen, open - question.more.size(), random);
      } else {
        for (const std::size_t i : random.sample(question.more.size(), open)) {
          chosen.push_back(question.more[i]);
        }
      }
    }
    random.shuffle(chosen);
    return chosen;
  }

  void add_others(std::vector<std::size_t>& chosen, std::size_t count, Random& random) const {
    const std::set<std::size_t> taken(chosen.begin(), chosen.end());
    std::vector<std::size_t> others;
    for (std::size_t i = 0; i < set_.documents.size(); ++i) {
      if (!taken.contains(i)) others.push_back(i);
    }
    for (const std::size_t i : random.sample(others.size(), std::min(count, others.size()))) {
      chosen.push_back(others[i]);
    }
  }

  const QaSet& set_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_ruler_questions(std::string_view task,
                                                     const RulerSetting& setting) {
  RulerSources& sources = setting.sources;
  return std::make_unique<Questions>(task == "qa_1" ? sources.squad() : sources.hotpotqa());
}

}  // namespace fastkv
