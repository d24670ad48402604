#include <fmt/format.h>

#include <array>
#include <random>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct DemoOptions {
  EngineOptions engine;
  std::int64_t tokens = 8192;
  std::int64_t facts = 4;
  double retain = 0.1;
  bool markdown = false;

  void visit(OptionVisitor& v) {
    engine.visit(v);
    v.integer("tokens", tokens, {.low = 256, .high = 1 << 24}, "length of the text, about");
    v.integer("facts", facts, {.low = 1, .high = 64},
              "facts hidden in the text; the question is about one");
    v.number("retain", retain, unit_rate,
             "share of the tokens that each layer keeps, where a method can be told");
    v.flag("markdown", markdown, "print the table as Markdown");
  }
};

/// Draws from lists; the same on every platform, unlike the standard distributions.
class Draw {
 public:
  explicit Draw(std::int64_t seed) : random_(static_cast<std::uint64_t>(seed)) {}
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }
  template <std::size_t N>
  std::string_view from(const std::array<std::string_view, N>& list) {
    return list[below(N)];
  }

 private:
  std::mt19937_64 random_;
};

std::string filler_sentence(Draw& draw) {
  static constexpr std::array<std::string_view, 16> subjects = {
      "The harbour master",  "A young carpenter",
      "The village school",  "Our neighbour",
      "The old observatory", "The night bus",
      "A visiting choir",    "The garden behind the mill",
      "The new librarian",   "The ferry",
      "A group of cyclists", "The baker's daughter",
      "The weather station", "The repair shop",
      "The town orchestra",  "A quiet inventor"};
  static constexpr std::array<std::string_view, 16> actions = {
      "opened its doors to visitors",     "kept a careful record of the tides",
      "waited for a spare part",          "planned a small exhibition",
      "was painted in a lighter colour",  "bought three crates of apples",
      "changed the timetable again",      "found a box of old photographs",
      "prepared for the summer festival", "lost the key to the cellar",
      "wrote a letter to the council",    "learned a few words of Portuguese",
      "repaired the wooden bridge",       "served soup until midnight",
      "moved closer to the station",      "collected coins from many countries"};
  static constexpr std::array<std::string_view, 12> endings = {
      "and the neighbours were pleased",  "because the winter had been long",
      "while the rain went on",           "before anyone could object",
      "as it had done every year",        "although nobody had asked for it",
      "and the story was soon forgotten", "until the first snow fell",
      "so that the children could watch", "with the help of two friends",
      "after a long discussion",          "which surprised even the mayor"};
  return fmt::format("{} {} {}.", draw.from(subjects), draw.from(actions), draw.from(endings));
}

std::string fact_key(Draw& draw) {
  static constexpr std::array<std::string_view, 12> first = {"amber", "brave", "cosmic", "dusty",
                                                             "eager", "fancy", "gentle", "hollow",
                                                             "icy",   "jolly", "lively", "mellow"};
  static constexpr std::array<std::string_view, 12> second = {
      "anchor", "basket", "candle", "desert", "engine", "forest",
      "guitar", "hammer", "island", "jacket", "kettle", "ladder"};
  return fmt::format("{}-{}", draw.from(first), draw.from(second));
}

struct Puzzle {
  std::string prompt;
  std::string answer;
};

/// A text of about `tokens` tokens with facts at random places, and a question about one of them.
Puzzle make_puzzle(const Text& text, const DemoOptions& o) {
  Draw draw(o.engine.weight_seed);
  std::vector<std::string> keys;
  while (static_cast<std::int64_t>(keys.size()) < o.facts) {
    const std::string key = fact_key(draw);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  }
  std::vector<std::string> sentences;
  std::int64_t length = 120;  // introduction and question
  while (length < o.tokens - 30 * o.facts) {
    sentences.push_back(filler_sentence(draw));
    length += static_cast<std::int64_t>(text.encode(" " + sentences.back(), /*bos=*/false).size());
  }
  const std::size_t asked = draw.below(keys.size());
  Puzzle puzzle;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string value = std::to_string(1000000 + draw.below(9000000));
    const auto at =
        sentences.begin() + static_cast<std::ptrdiff_t>(draw.below(sentences.size() + 1));
    sentences.insert(
        at, fmt::format("One of the special magic numbers for {} is: {}.", keys[i], value));
    if (i == asked) puzzle.answer = value;
  }
  puzzle.prompt = fmt::format(
      "Some special magic numbers are hidden within the following text. Make sure to memorize it. "
      "I will quiz you "
      "about the numbers afterwards.\n{}\nWhat is the special magic number for {} mentioned in the "
      "provided text? The "
      "special magic number for {} mentioned in the provided text is",
      fmt::join(sentences, " "), keys[asked], keys[asked]);
  return puzzle;
}

std::string first_line(std::string text) {
  text.erase(0, text.find_first_not_of(" \n"));
  return text.substr(0, text.find('\n'));
}

int run(std::span<const std::string> arguments) {
  DemoOptions o;
  refuse_words(read_arguments(arguments, o, "demo"), "demo");
  use_bundled_model(o.engine);
  Engine engine(o.engine);
  if (o.tokens > engine.info().max_positions) {
    throw Error(fmt::format("--tokens {} is above the model's {} positions; take a shorter text",
                            o.tokens, engine.info().max_positions));
  }
  const Puzzle puzzle = make_puzzle(engine.text(), o);
  const std::vector<TokenId> ids = engine.text().encode(puzzle.prompt);
  fmt::print("{}\n{}; {} tokens, {} facts hidden; the answer is {}\n\n", engine.info().name,
             engine.info().device, ids.size(), o.facts, puzzle.answer);

  Table table(
      {"method", "answer", "", "prefill s", "late tokens", "decode tok/s", "KV MiB", "of full"},
      {false, false, false, true, true, true, true, true});
  for (const MethodInfo& info : engine.methods()) {
    MethodChoice method{info.name, {}};
    for (const OptionInfo& option : info.options) {
      if (option.name == "retain" && !option.fallback.empty())
        method.options["retain"] = fmt::format("{}", o.retain);
    }
    Session session = engine.start(method);
    {
      ProgressBar bar(fmt::format("{:<12}", info.name));
      session.append(ids, bar.callback());
    }
    GenerateOptions generate;
    generate.max_tokens = 16;
    const Generation answer = session.generate(generate);
    const Report& r = session.report();
    const bool right = answer.text.find(puzzle.answer) != std::string::npos;
    table.add({info.name, first_line(answer.text), right ? "right" : "wrong",
               fmt::format("{:.2f}", r.prefill_seconds), fmt::format("{}", r.layer_tokens.back()),
               fmt::format("{:.0f}", r.decode_tokens_per_second()), mebibytes(r.kv_bytes),
               fmt::format("{:.1f} %", 100.0 * static_cast<double>(r.kv_bytes) /
                                           static_cast<double>(r.kv_bytes_full))});
  }
  fmt::print("{}", o.markdown ? table.markdown() : table.text());
  return 0;
}

}  // namespace

Command demo_command() {
  return {.name = "demo",
          .summary = "Hides facts in a long text and asks for one of them under every method.",
          .usage = "[--tokens N] [--seed N] [options]",
          .details = "",
          .options = [] { return list_options(DemoOptions{}); },
          .method_options = false,
          .run = run};
}

}  // namespace fastkv::cli
