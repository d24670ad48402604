#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"
#include "metrics/needle_metric.h"
#include "metrics/python_text.h"
#include "metrics/ruler_metrics.h"
#include "tasks/lists.h"
#include "tasks/own_text.h"
#include "tasks/table.h"

// A needle in a haystack at every depth of every length, as a picture of where a model or a
// method forgets (https://github.com/gkamradt/LLMTest_NeedleInAHaystack). Prompt, room and place
// of the needle are those of FastKV's evaluation (https://github.com/dongwonjo/FastKV).

namespace fastkv {
namespace fs = std::filesystem;
namespace {

/// Tokens left free for the prompt around the context and the answer.
constexpr std::int64_t room_for_question = 200;

struct NeedleOptions {
  std::string context = "1000,2000,4000,8000";
  std::string depths = "0,10,20,30,40,50,60,70,80,90,100";
  std::string haystack;
  std::string needle = std::string(default_needle());
  std::string question = "The best thing to do in San Francisco is: ";
  std::string answer;
  std::string prompt = "book";

  void visit(OptionVisitor& v) {
    v.text("context", "N,...", context, "prompt lengths in tokens, with room for the answer");
    v.text("depths", "PERCENT,...", depths, "where the needle is, 0: at the beginning");
    v.text("haystack", "DIR", haystack,
           "directory of .txt files to hide it in (default: the project's own text)");
    v.text("needle", "TEXT", needle, "what is hidden");
    v.text("question", "TEXT", question, "what is asked");
    v.text("answer", "TEXT", answer,
           "score whether the answer has this text (default: how much of the needle it has)");
    v.choice("prompt", prompt, {"book", "plain"},
             "book: the text between tags of the published test; plain: text, then question");
  }
};

/// The .txt files of a directory in the order of their names.
std::string read_haystack(const fs::path& directory) {
  if (!fs::is_directory(directory)) fail("there is no directory {}.", directory.string());
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) text += replace_invalid_utf8(read_text_file(file));
  if (python_strip(text).empty()) {
    fail("{} has no .txt file with text in it.", directory.string());
  }
  return text;
}

class Needle : public Benchmark {
 public:
  explicit Needle(NeedleOptions options)
      : options_(std::move(options)),
        contexts_(parse_integers(options_.context, {.low = 1, .high = 1 << 24}, "context")),
        depths_(parse_integers(options_.depths, {.low = 0, .high = 100}, "depths")) {
    if (python_strip(options_.needle).empty()) fail("--needle must have some text.");
    // A sentence of its own, in a line of its own.
    if (!options_.needle.starts_with('\n')) options_.needle = "\n" + options_.needle;
    if (!options_.needle.ends_with('\n')) options_.needle += '\n';
  }

  std::string name() const override { return "needle"; }
  std::vector<TaskInfo> tasks() const override {
    return {{"needle", options_.answer.empty() ? "ROUGE-1 F with stemming" : "string match", 30}};
  }
  std::vector<std::int64_t> contexts() const override { return contexts_; }

  void samples(const SampleRequest& request, const Codec& codec, const Take& take,
               std::vector<Issue>&) const override {
    const TaskInfo task = find_task(*this, request.task);
    const std::vector<TokenId> needle = codec.encode(options_.needle);
    const std::int64_t length =
        request.context - room_for_question - static_cast<std::int64_t>(needle.size());
    if (length < 1) {
      fail("a context of {} tokens has no room for a needle of {} and {} for question and answer.",
           request.context, needle.size(), room_for_question);
    }
    std::vector<TokenId> hay;
    std::int64_t made = 0;
    for (const std::int64_t depth : depths_) {
      if (request.limit > 0 && made++ == request.limit) return;
      const std::string id = std::to_string(request.context) + "-" + std::to_string(depth);
      if (request.skip && request.skip(id)) continue;
      if (hay.empty()) hay = cut_hay(length, codec);
      Sample sample;
      sample.task = request.task;
      sample.id = id;
      sample.context = prompt_begin() + hide(hay, needle, depth, codec);
      sample.question = prompt_end();
      sample.answers = {options_.answer.empty() ? std::string(python_strip(options_.needle))
                                                : options_.answer};
      sample.stop = {"\n"};
      sample.length = request.context;
      sample.max_new_tokens = task.max_new_tokens;
      sample.attributes = {{"context", static_cast<double>(request.context)},
                           {"depth", static_cast<double>(depth)}};
      if (!take(std::move(sample))) return;
    }
  }

  double score(const Sample& sample, const std::string& prediction) const override {
    if (!options_.answer.empty()) return string_match_all(prediction, sample.answers);
    return needle_score(options_.needle, prediction).score / 10.0;
  }

 private:
  std::string prompt_begin() const {
    return options_.prompt == "book" ? "<|im_start|> This is a very long story book: <book> " : "";
  }
  std::string prompt_end() const {
    if (options_.prompt == "plain") return "\n" + options_.question;
    return " </book>.\n Based on the content of the book, Question: " + options_.question +
           "\nAnswer:";
  }

  /// The first `length` tokens of the haystack, which repeats as often as it must.
  std::vector<TokenId> cut_hay(std::int64_t length, const Codec& codec) const {
    const std::string text =
        options_.haystack.empty() ? own_prose() : read_haystack(options_.haystack);
    const auto wanted = static_cast<std::size_t>(length);
    // No more text is encoded than could be needed: tokens mostly have four bytes.
    std::string used;
    std::vector<TokenId> ids;
    for (std::size_t bytes = 4 * wanted + 1000; ids.size() < wanted; bytes *= 2) {
      while (used.size() < bytes) used += text;
      std::size_t end = std::min(bytes, used.size());
      while (end > 0 && (static_cast<unsigned char>(used[end]) & 0xC0) == 0x80) --end;
      ids = codec.encode(std::string_view(used).substr(0, end));
    }
    ids.resize(wanted);
    return ids;
  }

  /// The needle goes in at its share of the tokens, moved back to the end of a sentence.
  static std::string hide(const std::vector<TokenId>& hay, const std::vector<TokenId>& needle,
                          std::int64_t depth, const Codec& codec) {
    std::size_t place = hay.size();
    if (depth < 100) {
      place = hay.size() * static_cast<std::size_t>(depth) / 100;
      while (place > 0 && !is_full_stop(hay[place - 1], codec)) --place;
    }
    std::vector<TokenId> all = hay;
    all.insert(all.begin() + static_cast<std::ptrdiff_t>(place), needle.begin(), needle.end());
    return codec.decode(all);
  }

  /// The reference lists the ids of full stops by model; here the token's text tells.
  static bool is_full_stop(TokenId id, const Codec& codec) {
    const std::string text = codec.decode(std::span(&id, 1));
    return text == "." || text == " .";
  }

  NeedleOptions options_;
  std::vector<std::int64_t> contexts_, depths_;
};

}  // namespace

BenchmarkEntry needle_benchmark() {
  return benchmark_entry<Needle, NeedleOptions>(
      {.name = "needle",
       .summary = "one sentence hidden in a long text, at each depth of each length",
       .source = "https://github.com/gkamradt/LLMTest_NeedleInAHaystack",
       .options = {}});
}

}  // namespace fastkv
