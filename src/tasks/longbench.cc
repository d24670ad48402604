#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/longbench_metrics.h"
#include "metrics/python_text.h"
#include "tasks/data_file.h"
#include "tasks/table.h"
#include "tasks/template.h"

// LongBench and LongBench-E from their official files: NAME.jsonl or NAME_e.jsonl, and the prompts
// and answer lengths in dataset2prompt.json and dataset2maxlen.json.

namespace fastkv {
namespace fs = std::filesystem;
namespace {

constexpr const char* where_to_get_it =
    "get LongBench's data and config files from https://github.com/THUDM/LongBench.";

// Data sets of LongBench-E.
constexpr std::string_view equal_datasets[] = {"qasper",
                                               "multifieldqa_en",
                                               "hotpotqa",
                                               "2wikimqa",
                                               "gov_report",
                                               "multi_news",
                                               "trec",
                                               "triviaqa",
                                               "samsum",
                                               "passage_count",
                                               "passage_retrieval_en",
                                               "lcc",
                                               "repobench-p"};
// Prompts that go on in the style of their examples, or of a program, and so have no chat template.
constexpr std::string_view raw_datasets[] = {"trec", "triviaqa", "samsum",
                                             "lsht", "lcc",      "repobench-p"};

bool among(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct LongBenchOptions {
  std::string data;
  std::string jieba;
  std::string code_similarity = "difflib";

  void visit(OptionVisitor& v) {
    v.text("data", "DIR", data,
           "LongBench's .jsonl files, dataset2prompt.json, dataset2maxlen.json");
    v.text("jieba", "DIR", jieba, "jieba's dict.txt and hmm.json, to score Chinese data sets");
    v.choice("code-similarity", code_similarity, {"difflib", "levenshtein"},
             "the library below fuzzywuzzy in code scores");
  }
};

class LongBench : public Benchmark {
 public:
  explicit LongBench(LongBenchOptions options, bool by_length = false)
      : options_(std::move(options)), by_length_(by_length) {}

  std::string name() const override { return by_length_ ? "longbench-e" : "longbench"; }

  std::vector<TaskInfo> tasks() const override {
    std::vector<TaskInfo> infos;
    for (const LongBenchDataset& dataset : longbench_datasets()) {
      if (by_length_ && !among(dataset.name, equal_datasets)) continue;
      infos.push_back({std::string(dataset.name) + (by_length_ ? "_e" : ""),
                       std::string(metric_name(dataset.metric)), /*max_new_tokens=*/0});
    }
    return infos;
  }

  void samples(const SampleRequest& request, const Codec&, const Take& take,
               std::vector<Issue>& issues) const override {
    find_task(*this, request.task);
    if (options_.data.empty()) fail("longbench needs --data DIR; {}", where_to_get_it);
    const std::string dataset(find_longbench_dataset(request.task)->name);
    const std::string prompt =
        get_string(config("dataset2prompt.json"), dataset, "dataset2prompt.json");
    const std::int64_t answer_tokens =
        get_int(config("dataset2maxlen.json"), dataset, "dataset2maxlen.json");
    const auto make = [&](const Json& row, std::int64_t index) {
      Sample sample = make_sample(row, prompt);
      sample.task = request.task;
      sample.id = find_string(row, "_id", "the row").value_or(std::to_string(index));
      sample.max_new_tokens = answer_tokens;
      sample.chat = !among(dataset, raw_datasets);
      return sample;
    };
    samples_of_rows(data_file(request.task + ".jsonl"), request, make, take, issues);
  }

  double score(const Sample& sample, const std::string& prediction) const override {
    const LongBenchDataset& dataset = *find_longbench_dataset(sample.task);
    const bool levenshtein = options_.code_similarity == "levenshtein";
    if (dataset.chinese && !segmenter_ && !options_.jieba.empty()) {
      segmenter_ = std::make_unique<Segmenter>(options_.jieba);
    }
    return longbench_sample(
        dataset, prediction, sample.answers,
        {.classes = sample.all_classes,
         .code = levenshtein ? CodeSimilarity::levenshtein : CodeSimilarity::difflib,
         .segmenter = segmenter_.get()});
  }

  std::vector<Figure> task_figures(std::span<const Scored> scored) const override {
    std::vector<Figure> figures = Benchmark::task_figures(scored);
    if (!by_length_) return figures;
    std::vector<double> scores;
    std::vector<std::int64_t> lengths;
    for (const Scored& sample : scored) {
      scores.push_back(sample.score);
      lengths.push_back(sample.length);
    }
    const LongBenchByLength groups = longbench_by_length(scores, lengths);
    const auto count = [&](std::int64_t from, std::int64_t to) {
      return std::count_if(lengths.begin(), lengths.end(),
                           [&](std::int64_t length) { return length >= from && length < to; });
    };
    if (groups.below_4k) figures.push_back({"0-4k", *groups.below_4k, count(INT64_MIN, 4000)});
    if (groups.below_8k) figures.push_back({"4-8k", *groups.below_8k, count(4000, 8000)});
    if (groups.above) figures.push_back({"8k+", *groups.above, count(8000, INT64_MAX)});
    return figures;
  }

  std::vector<Figure> averages(const std::map<std::string, double>& scores) const override {
    std::vector<LongBenchScore> found;
    double sum = 0.0;
    for (const auto& [task, score] : scores) {
      found.push_back({find_longbench_dataset(task), score});
      sum += score;
    }
    if (found.empty()) return {};
    const auto count = static_cast<std::int64_t>(found.size());
    if (by_length_) {
      const auto all = static_cast<std::int64_t>(std::size(equal_datasets));
      return {{part_of("mean over data sets", count, all),
               python_round(sum / static_cast<double>(count), 2), count}};
    }
    std::vector<Figure> figures;
    for (const LongBenchAverage& average : longbench_averages(found)) {
      const auto datasets = static_cast<std::int64_t>(average.datasets);
      figures.push_back(
          {part_of(average.label, datasets, static_cast<std::int64_t>(average.expected)),
           average.score, datasets});
    }
    return figures;
  }

 private:
  static std::string part_of(const std::string& label, std::int64_t count, std::int64_t all) {
    if (count == all) return label;
    return label + " (" + std::to_string(count) + " of " + std::to_string(all) + ")";
  }

  static Sample make_sample(const Json& row, const std::string& prompt) {
    const std::string context = get_string(row, "context", "the row");
    const std::string input = get_string(row, "input", "the row");
    FilledTemplate filled = fill_template(prompt, {{"context", context}, {"input", input}});
    Sample sample;
    sample.context = std::move(filled.context);
    sample.question = std::move(filled.question);
    for (const Json& answer : get_array(row, "answers", "the row")) {
      sample.answers.push_back(to_text(answer, "answers", "the row"));
    }
    if (sample.answers.empty()) fail("the row's \"answers\" is empty.");
    if (find_field(row, "all_classes", "the row")) {
      for (const Json& name : get_array(row, "all_classes", "the row")) {
        sample.all_classes.push_back(to_text(name, "all_classes", "the row"));
      }
    }
    sample.length = get_int(row, "length", "the row");
    return sample;
  }

  /// In the directory, or where LongBench's repository keeps it.
  fs::path data_file(const std::string& name) const {
    const fs::path directory = options_.data;
    for (const char* folder : {"data", "config"}) {
      if (auto path = find_packed_file(directory / folder, name)) return *path;
    }
    return need_packed_file(directory, name, where_to_get_it);
  }
  Json config(const std::string& name) const {
    return parse_json(read_packed_file(data_file(name)), name);
  }

  LongBenchOptions options_;
  bool by_length_;
  mutable std::unique_ptr<Segmenter> segmenter_;  // read when the first Chinese answer is scored
};

class LongBenchE : public LongBench {
 public:
  explicit LongBenchE(LongBenchOptions options) : LongBench(std::move(options), true) {}
};

}  // namespace

BenchmarkEntry longbench_benchmark() {
  return benchmark_entry<LongBench, LongBenchOptions>(
      {.name = "longbench",
       .summary = "21 data sets of questions, summaries, examples and code",
       .source = "https://arxiv.org/abs/2308.14508",
       .options = {}});
}

BenchmarkEntry longbench_e_benchmark() {
  return benchmark_entry<LongBenchE, LongBenchOptions>(
      {.name = "longbench-e",
       .summary = "13 of LongBench's data sets, scored by length",
       .source = "https://arxiv.org/abs/2308.14508",
       .options = {}});
}

}  // namespace fastkv
