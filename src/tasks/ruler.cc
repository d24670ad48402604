#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "metrics/python_text.h"
#include "metrics/ruler_metrics.h"
#include "tasks/data_file.h"
#include "tasks/lists.h"
#include "tasks/ruler_prompts.h"
#include "tasks/ruler_size.h"
#include "tasks/table.h"

// RULER: samples made here with the model's own tokenizer, or read from files that RULER's own
// scripts made.

namespace fastkv {
namespace fs = std::filesystem;
namespace {

struct RulerOptions {
  std::string context = "4096";
  std::int64_t samples = 500;
  std::int64_t seed = 42;
  std::string ruler_data;
  std::string ruler_files;
  std::string answer_prefix = "model";

  void visit(OptionVisitor& v) {
    v.text("context", "N,...", context, "prompt lengths in tokens, with room for the answer");
    v.integer("samples", samples, {.low = 1}, "samples of each task and length");
    v.integer("seed", seed, {.low = 0}, "seed of the samples");
    v.text("ruler-data", "DIR", ruler_data,
           "RULER's word lists, essays and questions (default: the project's own)");
    v.text("ruler-files", "DIR", ruler_files,
           "read RULER's samples, DIR/LENGTH/TASK.jsonl, instead of making them");
    v.choice("answer-prefix", answer_prefix, {"model", "user"},
             "whose turn the beginning of the answer is in; FastKV's evaluation: user");
  }
};

class Ruler : public Benchmark {
 public:
  explicit Ruler(RulerOptions options)
      : options_(std::move(options)),
        contexts_(parse_integers(options_.context, {.low = 256, .high = 1 << 24}, "context")),
        sources_(options_.ruler_data) {
    if (!options_.ruler_data.empty() && !options_.ruler_files.empty()) {
      fail(
          "--ruler-files has samples as they are and --ruler-data what samples are made of; leave "
          "one of them out");
    }
  }

  std::string name() const override { return "ruler"; }

  std::vector<TaskInfo> tasks() const override {
    std::vector<TaskInfo> infos;
    for (const RulerTask& task : ruler_tasks()) {
      const bool all = task.metric == RulerMetric::match_all;
      infos.push_back({std::string(task.name), all ? "string match (all)" : "string match (part)",
                       ruler_answer_tokens(task.name)});
    }
    return infos;
  }

  std::vector<std::int64_t> contexts() const override { return contexts_; }

  void samples(const SampleRequest& request, const Codec& codec, const Take& take,
               std::vector<Issue>& issues) const override {
    find_task(*this, request.task);
    if (options_.ruler_files.empty()) {
      generate(request, codec, take);
    } else {
      read(request, codec, take, issues);
    }
  }

  double score(const Sample& sample, const std::string& prediction) const override {
    return ruler_sample(find_ruler_task(sample.task)->metric, ruler_postprocess(prediction),
                        sample.answers);
  }

  double mean(std::span<const double> scores) const override { return ruler_mean(scores); }

  std::vector<Figure> averages(const std::map<std::string, double>& scores) const override {
    std::vector<Figure> figures;
    add_mean(figures, scores, "mean of 11 (without qa)", 11);
    add_mean(figures, scores, "mean of 13", 13);
    return figures;
  }

 private:
  /// The mean over the tasks, of 11 without the two of questions, when all of them ran.
  static void add_mean(std::vector<Figure>& figures, const std::map<std::string, double>& scores,
                       const char* label, std::int64_t expected) {
    double sum = 0.0;
    std::int64_t count = 0;
    for (const RulerTask& task : ruler_tasks()) {
      if (expected == 11 && task.name.starts_with("qa")) continue;
      const auto found = scores.find(std::string(task.name));
      if (found == scores.end()) return;
      sum += found->second;
      ++count;
    }
    figures.push_back({label, python_round(sum / static_cast<double>(count), 2), count});
  }

  Sample make(const SampleRequest& request, const std::string& id, RulerPrompt prompt) const {
    Sample sample;
    sample.task = request.task;
    sample.id = id;
    sample.context = std::move(prompt.context);
    sample.question = std::move(prompt.question);
    sample.answer_prefix = std::move(prompt.answer_prefix);
    if (options_.answer_prefix == "user") {
      sample.question += sample.answer_prefix;
      sample.answer_prefix.clear();
    }
    sample.answers = std::move(prompt.answers);
    sample.max_new_tokens = ruler_answer_tokens(request.task);
    sample.attributes["context"] = static_cast<double>(request.context);
    return sample;
  }

  // Samples made here ---------------------------------------------------------------------------

  void generate(const SampleRequest& request, const Codec& codec, const Take& take) const {
    const RulerSetting setting{request.context, request.context - codec.template_tokens,
                               options_.seed, sources_, codec};
    const std::string purpose = request.task + "/" + std::to_string(request.context);
    const std::int64_t answer_tokens = ruler_answer_tokens(request.task);
    std::int64_t count = options_.samples;
    if (request.limit > 0) count = std::min(count, request.limit);

    std::unique_ptr<RulerGenerator> generator;
    if (find_ruler_task(request.task)->metric == RulerMetric::match_part) {
      // A question is asked once, so data says how many samples there are.
      generator = make_ruler_generator(request.task, setting);
      count = std::min(count, generator->most_samples());
    }
    std::optional<std::int64_t> size;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::string id = std::to_string(i);
      if (request.skip && request.skip(id)) continue;
      if (!size) {  // nothing is fitted for a task that is done
        if (!generator) generator = make_ruler_generator(request.task, setting);
        size = fit_ruler_size(*generator, setting, answer_tokens, purpose + "/fit");
      }
      Random random(static_cast<std::uint64_t>(options_.seed), purpose,
                    static_cast<std::uint64_t>(i));
      if (!take(draw_fitting(*generator, setting, request, *size, random, id))) return;
    }
  }

  /// Draws until a prompt is short enough: with a step less filling each time, and, where that
  /// would leave nothing, with half of it (there the reference would not end).
  Sample draw_fitting(const RulerGenerator& generator, const RulerSetting& setting,
                      const SampleRequest& request, std::int64_t size, Random& random,
                      const std::string& id) const {
    const RulerGrowth growth = generator.growth();
    const std::int64_t answer_tokens = ruler_answer_tokens(request.task);
    while (true) {
      RulerPrompt prompt = generator.draw(random, size, std::stoll(id));
      const std::int64_t length = ruler_length(prompt, answer_tokens, setting.codec);
      if (length <= setting.tokens) {
        Sample sample = make(request, id, std::move(prompt));
        sample.length = length;
        return sample;
      }
      if (size <= growth.least) {
        fail(
            "{} does not fit into a context of {} tokens: its smallest prompt has {}, answer and "
            "chat template ({} tokens) included.",
            request.task, request.context, length + setting.codec.template_tokens,
            setting.codec.template_tokens);
      }
      size = std::max(size > growth.step ? size - growth.step : size / 2, growth.least);
    }
  }

  // Samples of RULER's scripts ------------------------------------------------------------------

  void read(const SampleRequest& request, const Codec& codec, const Take& take,
            std::vector<Issue>& issues) const {
    const auto make_sample = [&](const Json& row, std::int64_t index) {
      RulerPrompt prompt = read_record(row, request.task);
      // In records of needle tasks "index" is a place in the text, so samples count rows.
      Sample sample = make(request, std::to_string(index), std::move(prompt));
      sample.length = find_int(row, "length", "the row").value_or(0);
      if (sample.length == 0) sample.length = codec.count(sample.context + sample.question);
      return sample;
    };
    SampleRequest limited = request;
    if (limited.limit == 0 || limited.limit > options_.samples) limited.limit = options_.samples;
    samples_of_rows(record_file(request), limited, make_sample, take, issues);
  }

  /// As FastKV's repository has them, as RULER's scripts leave them, or of one length only.
  fs::path record_file(const SampleRequest& request) const {
    const fs::path directory = options_.ruler_files;
    const std::string length = std::to_string(request.context);
    const std::string plain = request.task + ".jsonl";
    const fs::path own = fs::path(request.task) / "validation.jsonl";
    for (const fs::path& name : {length / fs::path(plain), length / own, length / ("data" / own)}) {
      if (const auto path = find_packed_file(directory, name.string())) return *path;
    }
    for (const fs::path& name : {fs::path(plain), own}) {
      const auto path = find_packed_file(directory, name.string());
      if (!path) continue;
      if (contexts_.size() > 1) {
        fail(
            "{} does not say which of the contexts {} it is for; name its own with --context, or "
            "give files by length ({}/{}).",
            path->string(), options_.context, length, plain);
      }
      return *path;
    }
    fail("there is no {}/{} (or .gz), {}/{}/validation.jsonl or {} in {}.", length, plain, length,
         request.task, plain, directory.string());
  }

  /// A record with the answer's beginning in a field of its own, or (before 2025) at the end of
  /// the input.
  static RulerPrompt read_record(const Json& row, const std::string& task) {
    RulerPrompt prompt;
    std::string input = get_string(row, "input", "the row");
    if (auto prefix = find_string(row, "answer_prefix", "the row")) {
      prompt.answer_prefix = *prefix;
    } else if (const auto at = input.rfind(ruler_prefix_mark(task)); at != std::string::npos) {
      prompt.answer_prefix = input.substr(at);
      input.resize(at);
    } else {
      fail("the row's input has no \"{}\" at its end, which {} has.", ruler_prefix_mark(task),
           task);
    }
    const auto question = input.rfind(ruler_question_mark(task));
    if (question == std::string::npos) {
      fail("the row's input has no question of {}: no \"{}\" in it.", task,
           ruler_question_mark(task));
    }
    prompt.question = input.substr(question);
    input.resize(question);
    prompt.context = std::move(input);
    for (const Json& answer : get_array(row, "outputs", "the row")) {
      prompt.answers.push_back(to_text(answer, "outputs", "the row"));
    }
    if (prompt.answers.empty()) fail("the row's \"outputs\" is empty.");
    return prompt;
  }

  RulerOptions options_;
  std::vector<std::int64_t> contexts_;
  mutable RulerSources sources_;  // reads what is asked for, once
};

}  // namespace

BenchmarkEntry ruler_benchmark() {
  return benchmark_entry<Ruler, RulerOptions>(
      {.name = "ruler",
       .summary = "13 synthetic tasks: needles, variables, frequent words, questions",
       .source = "https://arxiv.org/abs/2404.06654",
       .options = {}});
}

}  // namespace fastkv
