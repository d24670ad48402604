#include <fmt/core.h>

#include <algorithm>
#include <numbers>
#include <set>

#include "core/error.h"
#include "tasks/ruler_generators.h"
#include "tasks/ruler_text.h"

// Counting words: which occur most often.

namespace fastkv {
namespace {

class CommonWords : public RulerGenerator {
 public:
  explicit CommonWords(const RulerSetting& setting)
      : sources_(setting.sources), short_(setting.context < 4096) {}

  RulerGrowth growth() const override {
    return {.least = 10, .low = 10, .step = 10, .probe = 4096, .headroom = 2.0};
  }

  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t) const override {
    const RulerPrompt example = short_ ? list(random, 20, 3, 1) : list(random, 40, 10, 3);
    RulerPrompt prompt = short_ ? list(random, size, 6, 1) : list(random, size, 30, 3);
    Strings numbered;
    for (std::size_t i = 0; i < example.answers.size(); ++i) {
      numbered.push_back(fmt::format("{}. {}", i + 1, example.answers[i]));
    }
    prompt.context = example.context + example.question + example.answer_prefix + " " +
                     join(numbered, " ") + "\n" + prompt.context;
    return prompt;
  }

 private:
  static constexpr std::size_t common = 10;

  /// `words` different words, ten of them `often` times, the others `seldom`.
  RulerPrompt list(Random& random, std::int64_t words, int often, int seldom) const {
    const auto wanted = static_cast<std::size_t>(words);
    const Strings& pool = pool_of(wanted);
    const auto drawn = random.sample(pool.size(), std::min(wanted, pool.size()));
    Strings all;
    RulerPrompt prompt;
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      const std::string& word = pool[drawn[i]];
      if (i < common) prompt.answers.push_back(word);
      all.insert(all.end(), static_cast<std::size_t>(i < common ? often : seldom), word);
    }
    random.shuffle(all);
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i] = std::to_string(i + 1) + ". " + all[i];
    }
    prompt.context =
        "Below is a numbered list of words. In these words, some appear more often than others. "
        "Memorize the ones that appear most often.\n" +
        join(all, " ");
    prompt.question = "\nQuestion: What are the 10 most common words in the above list?";
    prompt.answer_prefix = " Answer: The top 10 words that appear most often in the list are:";
    return prompt;
  }

  const Strings& pool_of(std::size_t words) const {
    if (pool_.empty()) pool_ = sources_.words().all(0);
    if (words <= pool_.size()) return pool_;
    if (large_pool_.empty()) large_pool_ = sources_.words().all(words);
    return large_pool_;
  }

  RulerSources& sources_;
  bool short_;
  mutable Strings pool_, large_pool_;
};

class FrequentWords : public RulerGenerator {
 public:
  explicit FrequentWords(const RulerSetting& setting)
      : room_(setting.tokens - ruler_answer_tokens("fwe")) {
    if (room_ < 5 * 50)
      fail("fwe needs a context of at least 300 tokens, not {}.", setting.context);
  }

  RulerGrowth growth() const override {
    return {.least = 50, .low = room_ / 6, .step = room_ / 32, .every_step = true};
  }

  /// `size`: how many words there would be if all ranks had some.
  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t) const override {
    Strings words;
    std::set<std::string> used;
    while (static_cast<std::int64_t>(words.size()) < room_ / 50) {
      std::string word;
      for (int i = 0; i < 6; ++i) word += static_cast<char>('a' + random.below(26));
      if (used.insert(word).second) words.push_back(word);
    }
    words[0] = "...";
    Strings all;
    for (std::size_t i = 0; i < words.size(); ++i) {
      // Zipf's law with exponent 2: zeta(2) is pi^2 / 6.
      const double rank = static_cast<double>(i + 1);
      const double share = 1.0 / (rank * rank) / (std::numbers::pi * std::numbers::pi / 6.0);
      const auto times = static_cast<std::size_t>(static_cast<double>(size) * share);
      all.insert(all.end(), times, words[i]);
    }
    random.shuffle(all);
    return {
        .context =
            "Read the following coded text and track the frequency of each coded word. Find "
            "the three most frequently appeared coded words. " +
            join(all, " "),
        .question =
            "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
            "What are the three most frequently appeared words in the above coded text?",
        .answer_prefix =
            " Answer: According to the coded text above, the three most frequently "
            "appeared words are:",
        .answers = {words[1], words[2], words[3]},
    };
  }

 private:
  std::int64_t room_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_ruler_common_words(std::string_view,
                                                        const RulerSetting& setting) {
  return std::make_unique<CommonWords>(setting);
}

std::unique_ptr<RulerGenerator> make_ruler_frequent_words(std::string_view,
                                                          const RulerSetting& setting) {
  return std::make_unique<FrequentWords>(setting);
}

}  // namespace fastkv
