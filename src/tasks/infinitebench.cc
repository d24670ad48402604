#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/infinitebench_metrics.h"
#include "metrics/python_text.h"
#include "tasks/data_file.h"
#include "tasks/infinitebench_prompts.h"
#include "tasks/table.h"
#include "tasks/template.h"

// InfiniteBench from its official files, TASK.jsonl. These changed over the years (a bare answer or
// a list, numbers or texts), so the reader takes all forms.

namespace fastkv {
namespace {

struct InfiniteBenchOptions {
  std::string data;
  std::string prompts = "chat";
  std::string scorer = "v2";

  void visit(OptionVisitor& v) {
    v.text("data", "DIR", data, "InfiniteBench's .jsonl files");
    v.choice("prompts", prompts, {"chat", "open"},
             "open: the prompts for models without a chat template");
    v.choice("scorer", scorer, {"v2", "v1"}, "v1: as before August 2024");
  }
};

/// A bare value counts as a list of one; numbers become texts, as the data set's schema has them.
std::vector<std::string> texts_of(const Json& value, const char* key) {
  if (value.is_string()) return {value.get<std::string>()};
  if (value.is_number()) return {value.dump()};
  if (!value.is_array())
    fail("the row's \"{}\" must be a text, a number, or a list of these.", key);
  std::vector<std::string> texts;
  for (const Json& item : value) {
    // math_calc's early files have a list in a list.
    for (std::string& text : texts_of(item, key)) texts.push_back(std::move(text));
  }
  return texts;
}

class InfiniteBench : public Benchmark {
 public:
  explicit InfiniteBench(InfiniteBenchOptions options) : options_(std::move(options)) {}

  std::string name() const override { return "infinitebench"; }

  std::vector<TaskInfo> tasks() const override {
    std::vector<TaskInfo> infos;
    for (const InfiniteBenchTask& task : infinitebench_tasks()) {
      infos.push_back({std::string(task.name), std::string(task.metric),
                       find_infinitebench_prompt(task.name)->max_new_tokens});
    }
    return infos;
  }

  void samples(const SampleRequest& request, const Codec&, const Take& take,
               std::vector<Issue>& issues) const override {
    find_task(*this, request.task);
    constexpr const char* hint =
        "get it from https://huggingface.co/datasets/xinrongzhang2022/InfiniteBench.";
    if (options_.data.empty()) fail("infinitebench needs --data DIR; {}", hint);
    const auto path = need_packed_file(options_.data, request.task + ".jsonl", hint);
    const auto make = [&](const Json& row, std::int64_t index) {
      return make_sample(row, request.task, index);
    };
    samples_of_rows(path, request, make, take, issues);
  }

  double score(const Sample& sample, const std::string& prediction) const override {
    Json label = sample.answers;
    // Scorer v1 knows a list from a value (in kv_retrieval a list never was right).
    if (sample.attributes.contains("bare_answer")) label = sample.answers.at(0);
    return infinitebench_score(
        *find_infinitebench_task(sample.task), prediction, label,
        options_.scorer == "v1" ? InfiniteBenchScorer::v1 : InfiniteBenchScorer::v2);
  }

  double mean(std::span<const double> scores) const override {
    return python_round(100 * infinitebench_mean(scores), 2);
  }

  std::vector<Figure> averages(const std::map<std::string, double>& scores) const override {
    if (scores.empty()) return {};
    double sum = 0.0;
    for (const auto& [task, score] : scores) sum += score;
    const auto count = static_cast<std::int64_t>(scores.size());
    const std::string part = scores.size() == infinitebench_tasks().size()
                                 ? ""
                                 : " of " + std::to_string(infinitebench_tasks().size());
    return {{"mean of " + std::to_string(count) + part + " tasks",
             python_round(sum / static_cast<double>(count), 2), count}};
  }

 private:
  Sample make_sample(const Json& row, const std::string& task, std::int64_t index) const {
    const Json* id = find_field(row, "id", "the row");
    const InfiniteBenchPrompt& prompt = *find_infinitebench_prompt(task);
    const bool chat = options_.prompts == "chat";
    FilledTemplate filled = fill(row, task, chat ? prompt.chat : prompt.open);

    Sample sample;
    sample.task = task;
    sample.id = !id ? std::to_string(index) : texts_of(*id, "id").at(0);
    if (chat) sample.system = "You are a helpful assistant";
    sample.context = std::move(filled.context);
    sample.question = std::move(filled.question);
    sample.answers = answers_of(row, task);
    if (!row["answer"].is_array() && sample.answers.size() == 1) {
      sample.attributes["bare_answer"] = 1.0;
    }
    sample.length = static_cast<std::int64_t>(sample.context.size());
    sample.max_new_tokens = prompt.max_new_tokens;
    sample.chat = chat;
    return sample;
  }

  static bool has_options(const std::string& task) {
    return task == "code_debug" || task == "longbook_choice_eng";
  }

  static std::vector<std::string> options_of(const Json& row) {
    std::vector<std::string> options = texts_of(get_array(row, "options", "the row"), "options");
    if (options.size() != 4) fail("the row's \"options\" must be 4, not {}.", options.size());
    return options;
  }

  /// The right answers; of a choice, the option's text and its letter.
  static std::vector<std::string> answers_of(const Json& row, const std::string& task) {
    const Json* answer = find_field(row, "answer", "the row");
    if (!answer) fail("the row has no \"answer\".");
    std::vector<std::string> answers = texts_of(*answer, "answer");
    if (answers.empty()) fail("the row's \"answer\" is empty.");
    if (!has_options(task) || answers.size() == 2) return answers;
    const std::vector<std::string> options = options_of(row);
    const auto right = std::find(options.begin(), options.end(), answers[0]);
    if (right == options.end()) fail("the row's answer is none of its options.");
    return {answers[0], std::string(1, static_cast<char>('A' + (right - options.begin())))};
  }

  static FilledTemplate fill(const Json& row, const std::string& task, std::string_view text) {
    const char* key = find_field(row, "context", "the row") ? "context" : "content";
    const std::string context = get_string(row, key, "the row");
    const std::string input = find_string(row, "input", "the row").value_or("");
    std::map<std::string_view, std::string_view> fields = {
        {"context", context}, {"input", input}, {"question", input}};
    std::vector<std::string> options;
    if (has_options(task)) {
      options = options_of(row);
      const char* names[] = {"OPTION_A", "OPTION_B", "OPTION_C", "OPTION_D"};
      for (std::size_t i = 0; i < options.size(); ++i) fields[names[i]] = options[i];
    }
    std::string prefix, call, function;
    if (task == "math_find") {
      fields["prefix"] = prefix = list_question(input);
    } else if (task == "code_run") {
      fields["func_call"] = call = function_call(input);
      fields["func"] = function = call.substr(0, call.find('('));
    }
    return fill_template(text, fields);
  }

  // Patterns are searched by hand: std::regex recurses once a character, and lines may be long.

  /// "... The largest number of the list is: " asks what the largest number is: "The .+ of".
  static std::string list_question(std::string_view input) {
    while (!input.empty()) {
      const std::string_view line = input.substr(0, input.find('\n'));
      const auto begin = line.find("The ");
      const auto end = line.rfind(" of");
      if (begin != line.npos && end != line.npos && begin + 4 < end) {
        const std::string wanted = python_lower(line.substr(begin, end - begin));
        return "What is " + wanted + " in the following list?";
      }
      input.remove_prefix(std::min(line.size() + 1, input.size()));
    }
    fail("the row's input does not say which number of the list is wanted.");
  }

  /// The first "func_[0-9]+\(-?[0-9]+\)".
  static std::string function_call(std::string_view input) {
    const auto behind_digits = [&](std::size_t at) {
      return std::min(input.find_first_not_of("0123456789", at), input.size());
    };
    constexpr std::string_view name = "func_";
    for (auto at = input.find(name); at != input.npos; at = input.find(name, at + 1)) {
      const std::size_t open = behind_digits(at + name.size());
      if (open == at + name.size() || !input.substr(open).starts_with('(')) continue;
      const bool negative = input.substr(open + 1).starts_with('-');
      const std::size_t number = open + (negative ? 2 : 1);
      const std::size_t close = behind_digits(number);
      if (close == number || !input.substr(close).starts_with(')')) continue;
      return std::string(input.substr(at, close + 1 - at));
    }
    fail("the row's input has no call of a function.");
  }

  InfiniteBenchOptions options_;
};

}  // namespace

BenchmarkEntry infinitebench_benchmark() {
  return benchmark_entry<InfiniteBench, InfiniteBenchOptions>(
      {.name = "infinitebench",
       .summary = "12 tasks beyond 100K tokens: retrieval, books, dialogue, code, numbers",
       .source = "https://arxiv.org/abs/2402.13718",
       .options = {}});
}

}  // namespace fastkv
