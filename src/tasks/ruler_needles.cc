#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <set>

#include "tasks/ruler_generators.h"
#include "tasks/ruler_text.h"

// Needles in a haystack: which keys have which values.

namespace fastkv {
namespace {

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

}  // namespace

std::unique_ptr<RulerGenerator> make_ruler_needles(std::string_view task,
                                                   const RulerSetting& setting) {
  const auto* found = std::find_if(std::begin(niah_tasks), std::end(niah_tasks),
                                   [&](const NiahTask& niah) { return niah.name == task; });
  assert(found != std::end(niah_tasks));
  return std::make_unique<Niah>(*found, setting);
}

}  // namespace fastkv
