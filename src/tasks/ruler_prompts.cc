#include "tasks/ruler_prompts.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "core/error.h"

// The reference shuffles a few lists with a generator that it seeds anew each time. Those lists
// are in random order already, so here they are shuffled like all others, or not at all.

namespace fastkv {
namespace {

using Strings = std::vector<std::string>;

constexpr const char* noise_line =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

std::string join(const Strings& parts, std::string_view between) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += between;
    text += parts[i];
  }
  return text;
}

/// Lines with others put in at random places, each place taken once; the order of `inserted` stays
/// when `in_order`.
Strings insert_lines(Strings lines, const Strings& inserted, bool in_order, Random& random) {
  std::vector<std::size_t> at = random.sample(lines.size(), inserted.size());
  if (in_order) std::sort(at.begin(), at.end());
  std::vector<std::pair<std::size_t, const std::string*>> places;
  for (std::size_t i = 0; i < at.size(); ++i) places.emplace_back(at[i], &inserted[i]);
  // From behind, so that no insertion moves another one's place.
  std::sort(places.rbegin(), places.rend());
  for (const auto& [place, text] : places) {
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(place), *text);
  }
  return lines;
}

// ---------------------------------------------------------------------------------------------
// Needles in a haystack

enum class Haystack { noise, essay, needles };
enum class Item { number, words, uuid };

struct NiahTask {
  std::string_view name;
  Haystack haystack;
  Item key, value;
  std::int64_t keys, values, queries;
};
constexpr NiahTask niah_tasks[] = {
    {"niah_single_1", Haystack::noise, Item::words, Item::number, 1, 1, 1},
    {"niah_single_2", Haystack::essay, Item::words, Item::number, 1, 1, 1},
    {"niah_single_3", Haystack::essay, Item::words, Item::uuid, 1, 1, 1},
    {"niah_multikey_1", Haystack::essay, Item::words, Item::number, 4, 1, 1},
    {"niah_multikey_2", Haystack::needles, Item::words, Item::number, 1, 1, 1},
    {"niah_multikey_3", Haystack::needles, Item::uuid, Item::uuid, 1, 1, 1},
    {"niah_multivalue", Haystack::essay, Item::words, Item::number, 1, 4, 1},
    {"niah_multiquery", Haystack::essay, Item::words, Item::number, 4, 1, 4},
};

std::string draw_uuid(Random& random) {
  std::uint64_t high = random.bits();
  std::uint64_t low = random.bits();
  high = (high & ~0xF000ULL) | 0x4000ULL;      // version 4
  low = (low & ~(3ULL << 62)) | (2ULL << 62);  // the usual variant
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF,
                     high & 0xFFFF, low >> 48, low & 0xFFFFFFFFFFFFULL);
}

class Niah : public RulerGenerator {
 public:
  Niah(const NiahTask& task, const RulerSetting& setting)
      : task_(task), sources_(setting.sources), short_(setting.context < 4096) {}

  RulerGrowth growth() const override {
    const std::int64_t step = task_.haystack == Haystack::essay ? 500 : short_ ? 5 : 25;
    // Needles go to different lines.
    const std::int64_t least = task_.haystack == Haystack::essay ? 1 : task_.keys * task_.values;
    return {.least = least, .low = step, .step = step, .probe = 2 * step};
  }

  RulerPrompt draw(Random& random, std::int64_t size, std::int64_t) const override {
    std::set<std::string> used;
    Strings keys;
    std::vector<Strings> values;
    Strings needles;
    for (std::int64_t k = 0; k < task_.keys; ++k) {
      keys.push_back(new_key(random, used));
      values.emplace_back();
      for (std::int64_t v = 0; v < task_.values; ++v) {
        values.back().push_back(item(task_.value, random));
        needles.push_back(needle(keys.back(), values.back().back()));
      }
    }
    random.shuffle(needles);

    RulerPrompt prompt;
    Strings queried;
    for (const std::size_t k :
         random.sample(keys.size(), static_cast<std::size_t>(task_.queries))) {
      queried.push_back(keys[k]);
      prompt.answers.insert(prompt.answers.end(), values[k].begin(), values[k].end());
    }
    fill(prompt, listed(queried), haystack(size, needles, random, used));
    return prompt;
  }

 private:
  /// Several values are asked for in the plural, one in the singular.
  void fill(RulerPrompt& prompt, const std::string& query, const std::string& text) const {
    const std::string_view things = plural();
    if (task_.values * task_.queries > 1) {
      prompt.context = fmt::format(
          "Some special magic {0} are hidden within the following text. Make sure to memorize it. "
          "I will quiz you about the {0} afterwards.\n{1}",
          things, text);
      prompt.question =
          fmt::format("\nWhat are all the special magic {} for {} mentioned in the provided text?",
                      things, query);
      prompt.answer_prefix = fmt::format(
          " The special magic {} for {} mentioned in the provided text are", things, query);
    } else {
      const std::string_view thing = things.substr(0, things.size() - 1);
      prompt.context = fmt::format(
          "A special magic {0} is hidden within the following text. Make sure to memorize it. "
          "I will quiz you about the {0} afterwards.\n{1}",
          thing, text);
      prompt.question = fmt::format(
          "\nWhat is the special magic {} for {} mentioned in the provided text?", thing, query);
      prompt.answer_prefix = fmt::format(
          " The special magic {} for {} mentioned in the provided text is", thing, query);
    }
  }

  std::string_view plural() const { return task_.value == Item::uuid ? "uuids" : "numbers"; }

  std::string needle(const std::string& key, const std::string& value) const {
    return fmt::format("One of the special magic {} for {} is: {}.", plural(), key, value);
  }

  std::string item(Item kind, Random& random) const {
    switch (kind) {
      case Item::number:
        return std::to_string(random.between(1'000'000, 9'999'999));
      case Item::words: {
        const WordLists& words = sources_.words();
        return random.pick(words.adjectives) + "-" + random.pick(words.nouns);
      }
      case Item::uuid:
        return draw_uuid(random);
    }
    return {};
  }

  /// No key occurs twice, which would give a question two answers; the reference relies on luck.
  std::string new_key(Random& random, std::set<std::string>& used) const {
    while (true) {
      std::string key = item(task_.key, random);
      if (used.insert(key).second) return key;
    }
  }

  /// "a", "a, and b", "a, b, and c"
  static std::string listed(const Strings& keys) {
    if (keys.size() == 1) return keys[0];
    return join(Strings(keys.begin(), keys.end() - 1), ", ") + ", and " + keys.back();
  }

  std::string haystack(std::int64_t size, const Strings& needles, Random& random,
                       std::set<std::string>& used) const {
    if (task_.haystack == Haystack::essay) {
      return into_sentences(sources_.sentences(size), needles, random);
    }
    Strings lines(static_cast<std::size_t>(size), noise_line);
    if (task_.haystack == Haystack::needles) {
      for (std::string& line : lines) {
        const std::string key = new_key(random, used);
        line = needle(key, item(task_.value, random));
      }
    }
    return join(insert_lines(std::move(lines), needles, /*in_order=*/false, random), "\n");
  }

  /// Needles between sentences, at different ones of 40 depths.
  static std::string into_sentences(const Strings& sentences, const Strings& needles,
                                    Random& random) {
    std::vector<std::size_t> places;
    for (const std::size_t step : random.sample(40, needles.size())) {
      // numpy's round(linspace(0, 100, 40)): halves do not occur.
      const double depth = std::nearbyint(static_cast<double>(step) * 100.0 / 39.0);
      const double place = static_cast<double>(sentences.size()) * (depth / 100.0);
      places.push_back(static_cast<std::size_t>(place));
    }
    std::sort(places.begin(), places.end());
    places.push_back(sentences.size());
    Strings parts;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto from = sentences.begin();
      parts.push_back(join(Strings(from + static_cast<std::ptrdiff_t>(begin),
                                   from + static_cast<std::ptrdiff_t>(places[i])),
                           " "));
      if (i < needles.size()) parts.push_back(needles[i]);
      begin = places[i];
    }
    return join(parts, " ");
  }

  const NiahTask& task_;
  RulerSources& sources_;
  bool short_;
};

// ---------------------------------------------------------------------------------------------
// Variable tracking

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
    example_size_ = fit_ruler_size(example_, example, ruler_answer_tokens("vt"), "vt example");
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

// ---------------------------------------------------------------------------------------------
// Common words

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

// ---------------------------------------------------------------------------------------------
// Frequent words

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

// ---------------------------------------------------------------------------------------------
// Questions about documents

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

std::unique_ptr<RulerGenerator> make_ruler_generator(std::string_view task,
                                                     const RulerSetting& setting) {
  for (const NiahTask& niah : niah_tasks) {
    if (niah.name == task) return std::make_unique<Niah>(niah, setting);
  }
  if (task == "vt") return std::make_unique<VariableTracking>(setting);
  if (task == "cwe") return std::make_unique<CommonWords>(setting);
  if (task == "fwe") return std::make_unique<FrequentWords>(setting);
  if (task == "qa_1") return std::make_unique<Questions>(setting.sources.squad());
  if (task == "qa_2") return std::make_unique<Questions>(setting.sources.hotpotqa());
  fail("there is no generator of a task '{}'.", task);
}

std::int64_t ruler_answer_tokens(std::string_view task) {
  if (task == "vt") return 30;
  if (task == "cwe") return 120;
  if (task == "fwe") return 50;
  return task.starts_with("qa") ? 32 : 128;
}

std::string_view ruler_question_mark(std::string_view task) {
  if (task.starts_with("niah")) return "\nWhat ";
  return task.starts_with("qa") ? "\n\nAnswer the question based on" : "\nQuestion:";
}

std::string_view ruler_prefix_mark(std::string_view task) {
  if (task.starts_with("niah")) return " The special magic ";
  return task.starts_with("qa") ? " Answer:" : " Answer: ";
}

std::int64_t ruler_length(const RulerPrompt& prompt, std::int64_t answer_tokens,
                          const Codec& codec) {
  return codec.count(prompt.context + prompt.question + prompt.answer_prefix) + answer_tokens;
}

std::int64_t fit_ruler_size(const RulerGenerator& generator, const RulerSetting& setting,
                            std::int64_t answer_tokens, std::string_view purpose) {
  const RulerGrowth growth = generator.growth();
  Random random(static_cast<std::uint64_t>(setting.seed), purpose);
  const auto length = [&](std::int64_t size) {
    return ruler_length(generator.draw(random, size, 0), answer_tokens, setting.codec);
  };
  if (growth.every_step) {
    std::int64_t size = growth.low;
    while (length(size) < setting.tokens) size += growth.step;
    return std::max(size - growth.step, growth.least);
  }
  // What a unit adds, without what every prompt has.
  const auto added = static_cast<double>(length(growth.probe) - length(growth.least));
  const double tokens_per_unit =
      std::max(added, 1.0) / static_cast<double>(growth.probe - growth.least);
  const auto estimate = static_cast<double>(setting.tokens) / tokens_per_unit;
  std::int64_t low = growth.low;
  std::int64_t high = std::max(static_cast<std::int64_t>(estimate * growth.headroom), 2 * low);
  std::int64_t best = growth.low;
  while (low <= high) {
    const std::int64_t middle = (low + high) / 2;
    if (length(middle) <= setting.tokens) {
      best = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return best;
}

}  // namespace fastkv
