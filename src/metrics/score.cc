// Files of answers in, numbers out. A benchmark is a Scorer: it knows data sets and rows.

#include "fastkv/score.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/infinitebench_metrics.h"
#include "metrics/longbench_metrics.h"
#include "metrics/needle_metric.h"
#include "metrics/python_text.h"
#include "metrics/ruler_metrics.h"

namespace fastkv {
namespace {

/// What a row comes to.
struct Scored {
  std::vector<double> samples;  // 0 to 1 each; most rows have one
  double score = 0;             // of the row, in the benchmark's unit
  std::vector<std::pair<std::string, double>> parts;
  std::optional<std::int64_t> length;
};

/// The samples of a data set, in the order of the files.
struct Collected {
  std::string name;
  std::vector<double> samples;
  std::vector<std::int64_t> lengths;  // one for each sample, or fewer: then of no use
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  /// In the order in which they are reported.
  virtual std::vector<std::string> datasets() const = 0;
  /// The data set as reported, e.g. without LongBench-E's ending; empty where it is unknown.
  virtual std::string find(const std::string& name) const = 0;
  /// The name under which a row that names no data set is reported; empty where it must name one.
  virtual std::string unnamed(const Json&) const { return {}; }
  /// Throws Error when a data set cannot be scored with the options given.
  virtual void check(const std::string&) {}
  /// Throws Error for a row that is not what it should be.
  virtual Scored score(const std::string& dataset, const Json& row, const std::string& where) = 0;
  virtual DatasetScore summary(const Collected& dataset) const = 0;
  virtual std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const = 0;
};

// Fields of rows.

const Json* any_field(const Json& row, std::initializer_list<const char*> names,
                      const std::string& where) {
  for (const char* name : names) {
    if (const Json* value = find_field(row, name, where)) return value;
  }
  return nullptr;
}

const Json& need_field(const Json& row, std::initializer_list<const char*> names,
                       const std::string& where) {
  const Json* value = any_field(row, names, where);
  if (!value) {
    fail("{}: the row has no field \"{}\".", where, fmt::join(names, "\" or \""));
  }
  return *value;
}

std::string text_of(const Json& row, std::initializer_list<const char*> names,
                    const std::string& where) {
  return to_text(need_field(row, names, where), *names.begin(), where);
}

/// A list of texts; a single text counts as a list of one.
std::vector<std::string> to_texts(const Json& value, const char* name, const std::string& where) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array()) fail("{}: \"{}\" must be a list of strings.", where, name);
  std::vector<std::string> texts;
  for (const Json& v : value) texts.push_back(to_text(v, name, where));
  return texts;
}

double mean_of(std::span<const DatasetScore> scores) {
  double sum = 0;
  for (const DatasetScore& s : scores) sum += s.score;
  return python_round(sum / static_cast<double>(scores.size()), 2);
}

// The benchmarks.

class LongBenchScorer : public Scorer {
 public:
  explicit LongBenchScorer(const ScoreOptions& options) : jieba_(options.jieba) {
    if (options.code_similarity == "levenshtein") code_ = CodeSimilarity::levenshtein;
  }

  std::vector<std::string> datasets() const override {
    std::vector<std::string> names;
    for (const LongBenchDataset& d : longbench_datasets()) names.emplace_back(d.name);
    return names;
  }
  std::string find(const std::string& name) const override {
    const LongBenchDataset* dataset = find_longbench_dataset(name);
    return dataset ? std::string(dataset->name) : std::string();
  }
  void check(const std::string& name) override {
    const LongBenchMetric metric = find_longbench_dataset(name)->metric;
    const bool needs_words =
        metric == LongBenchMetric::qa_f1_zh || metric == LongBenchMetric::rouge_l_zh;
    if (!needs_words || segmenter_) return;
    if (jieba_.empty()) {
      fail(
          "{} is scored by Chinese words: name a directory with jieba's dict.txt and hmm.json by "
          "--jieba; docs/scoring.md says how to get them",
          name);
    }
    segmenter_.emplace(jieba_);
  }

  Scored score(const std::string& name, const Json& row, const std::string& where) override {
    const LongBenchDataset& dataset = *find_longbench_dataset(name);
    LongBenchContext context = {.classes = {}, .code = code_};
    if (segmenter_) context.segmenter = &*segmenter_;
    std::vector<std::string> classes;
    if (dataset.metric == LongBenchMetric::classification) {
      classes = to_texts(need_field(row, {"all_classes"}, where), "all_classes", where);
      context.classes = classes;
    }
    Scored out;
    // A pair is scored as it is; a model's answer goes through the benchmark's rules.
    if (find_field(row, "prediction", where)) {
      out.score = longbench_metric(dataset, text_of(row, {"prediction"}, where),
                                   text_of(row, {"ground_truth"}, where), context);
    } else {
      const std::string prediction = text_of(row, {"pred", "prediction"}, where);
      const auto answers = to_texts(need_field(row, {"answers"}, where), "answers", where);
      out.score = longbench_sample(dataset, prediction, answers, context);
    }
    out.samples = {out.score};
    out.length = find_int(row, "length", where);
    return out;
  }

  DatasetScore summary(const Collected& dataset) const override {
    DatasetScore out;
    const LongBenchMetric metric = find_longbench_dataset(dataset.name)->metric;
    out.metric = metric_name(metric);
    if (metric == LongBenchMetric::code_similarity) {
      out.metric += code_ == CodeSimilarity::difflib ? " (difflib)" : " (Levenshtein)";
    }
    out.score = longbench_mean(dataset.samples);
    if (dataset.lengths.size() == dataset.samples.size()) {
      const LongBenchByLength by = longbench_by_length(dataset.samples, dataset.lengths);
      out.by_length = {{"0-4k", by.below_4k}, {"4-8k", by.below_8k}, {"8k+", by.above}};
    }
    return out;
  }
  std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const override {
    std::vector<LongBenchScore> by_dataset;
    for (const DatasetScore& s : scores) {
      by_dataset.push_back({find_longbench_dataset(s.name), s.score});
    }
    std::vector<ScoreAverage> out;
    for (LongBenchAverage& a : longbench_averages(by_dataset)) {
      out.push_back({std::move(a.label), a.datasets, a.expected, a.score});
    }
    return out;
  }

 private:
  std::string jieba_;
  CodeSimilarity code_ = CodeSimilarity::difflib;
  std::optional<Segmenter> segmenter_;
};

class RulerScorer : public Scorer {
 public:
  explicit RulerScorer(const ScoreOptions& options) : raw_(options.raw) {}

  std::vector<std::string> datasets() const override {
    std::vector<std::string> names;
    for (const RulerTask& t : ruler_tasks()) names.emplace_back(t.name);
    return names;
  }
  std::string find(const std::string& name) const override {
    return name == pairs || find_ruler_task(name) ? name : std::string();
  }
  /// Lists of predictions and references stand for no task.
  std::string unnamed(const Json& row) const override { return row.contains("preds") ? pairs : ""; }

  Scored score(const std::string& name, const Json& row, const std::string& where) override {
    std::vector<std::string> predictions;
    std::vector<std::vector<std::string>> references;
    if (const Json* several = find_field(row, "preds", where)) {
      predictions = to_texts(*several, "preds", where);
      for (const Json& r : get_array(row, "refs", where)) {
        references.push_back(to_texts(r, "refs", where));
      }
    } else {
      predictions = {text_of(row, {"pred"}, where)};
      references = {to_texts(need_field(row, {"outputs"}, where), "outputs", where)};
    }
    if (predictions.empty() || predictions.size() != references.size()) {
      fail("{}: \"preds\" and \"refs\" must be equally many, but there are {} and {}.", where,
           predictions.size(), references.size());
    }
    const auto values = [&](RulerMetric metric, bool raw) {
      std::vector<double> out;
      for (std::size_t i = 0; i < predictions.size(); ++i) {
        out.push_back(ruler_sample(metric, raw ? predictions[i] : ruler_postprocess(predictions[i]),
                                   references[i]));
      }
      return out;
    };
    Scored out;
    out.samples = values(metric_of(name), raw_);
    out.score = ruler_mean(out.samples);
    constexpr auto all = RulerMetric::match_all;
    constexpr auto part = RulerMetric::match_part;
    out.parts = {{"string_match_all", ruler_mean(values(all, true))},
                 {"string_match_part", ruler_mean(values(part, true))},
                 {"string_match_all_postprocessed", ruler_mean(values(all, false))},
                 {"string_match_part_postprocessed", ruler_mean(values(part, false))}};
    return out;
  }

  DatasetScore summary(const Collected& dataset) const override {
    DatasetScore out;
    const bool all = metric_of(dataset.name) == RulerMetric::match_all;
    out.metric = all ? "string_match_all" : "string_match_part";
    if (raw_) out.metric += " (raw)";
    out.score = ruler_mean(dataset.samples);
    return out;
  }
  std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const override {
    std::vector<DatasetScore> no_qa;
    for (const DatasetScore& s : scores) {
      if (s.name == pairs) return {};
      if (!s.name.starts_with("qa_")) no_qa.push_back(s);
    }
    std::vector<ScoreAverage> out = {
        {"mean of the tasks", scores.size(), ruler_tasks().size(), mean_of(scores)}};
    if (!no_qa.empty() && no_qa.size() < scores.size()) {
      out.push_back(
          {"mean of the tasks without QA", no_qa.size(), ruler_tasks().size() - 2, mean_of(no_qa)});
    }
    return out;
  }

 private:
  static constexpr const char* pairs = "pairs";
  static RulerMetric metric_of(const std::string& name) {
    const RulerTask* task = find_ruler_task(name);
    return task ? task->metric : RulerMetric::match_all;
  }
  bool raw_;
};

class NeedleScorer : public Scorer {
 public:
  std::vector<std::string> datasets() const override { return {}; }
  std::string find(const std::string& name) const override { return name; }
  /// Rows are reported by the length of their context, where they have it.
  std::string unnamed(const Json& row) const override {
    const auto length = row.find("context_length");
    const bool known = length != row.end() && length->is_number_integer();
    return known ? length->dump() + " tokens" : "needle";
  }

  Scored score(const std::string&, const Json& row, const std::string& where) override {
    const std::string needle =
        find_string(row, "needle", where).value_or(std::string(default_needle()));
    const NeedleScore s =
        needle_score(needle, text_of(row, {"response", "model_response", "pred"}, where));
    return {.samples = {s.score},
            .score = s.score,
            .parts = {{"overlap", static_cast<double>(s.overlap)},
                      {"precision", s.precision},
                      {"recall", s.recall}},
            .length = std::nullopt};
  }

  DatasetScore summary(const Collected& dataset) const override {
    double sum = 0;
    for (const double s : dataset.samples) sum += s;
    DatasetScore out;
    out.metric = "10 x ROUGE-1 F";
    out.score = python_round(sum / static_cast<double>(dataset.samples.size()), 2);
    return out;
  }
  std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const override {
    if (scores.size() < 2) return {};
    return {{"mean of the contexts", scores.size(), scores.size(), mean_of(scores)}};
  }
};

class InfiniteBenchFileScorer : public Scorer {
 public:
  explicit InfiniteBenchFileScorer(const ScoreOptions& options)
      : scorer_(options.scorer == "v1" ? InfiniteBenchScorer::v1 : InfiniteBenchScorer::v2) {}

  std::vector<std::string> datasets() const override {
    std::vector<std::string> names;
    for (const InfiniteBenchTask& t : infinitebench_tasks()) names.emplace_back(t.name);
    return names;
  }
  std::string find(const std::string& name) const override {
    return find_infinitebench_task(name) ? name : std::string();
  }

  Scored score(const std::string& name, const Json& row, const std::string& where) override {
    const std::string prediction = text_of(row, {"prediction", "pred"}, where);
    const Json& label = need_field(row, {"ground_truth", "label", "answers"}, where);
    Scored out;
    out.score = infinitebench_score(*find_infinitebench_task(name), prediction, label, scorer_);
    out.samples = {out.score};
    return out;
  }

  DatasetScore summary(const Collected& dataset) const override {
    DatasetScore out;
    out.metric = find_infinitebench_task(dataset.name)->metric;
    out.metric += scorer_ == InfiniteBenchScorer::v1 ? " (v1)" : " (v2)";
    out.score = python_round(100 * infinitebench_mean(dataset.samples), 2);
    return out;
  }
  std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const override {
    return {{"mean of the tasks", scores.size(), infinitebench_tasks().size(), mean_of(scores)}};
  }

 private:
  InfiniteBenchScorer scorer_;
};

struct BenchmarkEntry {
  const char* name;
  std::unique_ptr<Scorer> (*make)(const ScoreOptions&);
};

constexpr BenchmarkEntry benchmarks[] = {
    {"longbench",
     [](const ScoreOptions& o) -> std::unique_ptr<Scorer> {
       return std::make_unique<LongBenchScorer>(o);
     }},
    {"ruler",
     [](const ScoreOptions& o) -> std::unique_ptr<Scorer> {
       return std::make_unique<RulerScorer>(o);
     }},
    {"needle",
     [](const ScoreOptions&) -> std::unique_ptr<Scorer> {
       return std::make_unique<NeedleScorer>();
     }},
    {"infinitebench",
     [](const ScoreOptions& o) -> std::unique_ptr<Scorer> {
       return std::make_unique<InfiniteBenchFileScorer>(o);
     }},
};

std::unique_ptr<Scorer> make_scorer(const std::string& benchmark, const ScoreOptions& options) {
  for (const BenchmarkEntry& entry : benchmarks) {
    if (entry.name == benchmark) return entry.make(options);
  }
  fail("there is no benchmark '{}'; the known ones are {}", benchmark,
       fmt::join(score_benchmarks(), ", "));
}

// Files.

/// A file's name often is its data set's: "qasper.jsonl", "preds_passkey.jsonl".
std::string dataset_of_file(const std::string& file) {
  std::string name = std::filesystem::path(file).stem().string();
  if (name.starts_with("preds_")) name.erase(0, 6);
  return name;
}

class FileReader {
 public:
  FileReader(Scorer& scorer, const ScoreOptions& options, ScoreReport& report)
      : scorer_(scorer), options_(options), report_(report) {}

  void read(const std::string& file) {
    const std::string text = read_text_file(file);
    std::size_t line = 0;
    bool any = false;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view content = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      ++line;
      if (python_strip(content).empty()) continue;
      any = true;
      read_row(file, line, content);
    }
    if (!any) fail("{}: this file has no rows; expected a JSON object a line.", file);
  }

  std::vector<Collected> take() { return std::move(collected_); }

 private:
  void read_row(const std::string& file, std::size_t line, std::string_view content) {
    const std::string where = fmt::format("{}, line {}", file, line);
    RowScore& out = report_.rows.emplace_back();
    out.file = file;
    out.line = line;
    Json row;
    try {
      row = parse_json(content, where);
      if (!row.is_object()) fail("{}: a row must be a JSON object.", where);
    } catch (const Error& error) {
      set_error(out, where, error);
      return;
    }
    const std::string dataset = dataset_of(row, file, where);  // errors concern more than the row
    try {
      Scored scored = scorer_.score(dataset, row, where);
      out.score = scored.score;
      out.parts = std::move(scored.parts);
      Collected& into = collect(dataset);
      into.samples.insert(into.samples.end(), scored.samples.begin(), scored.samples.end());
      if (scored.length) into.lengths.push_back(*scored.length);
    } catch (const Error& error) {
      set_error(out, where, error);
    }
  }

  void set_error(RowScore& row, const std::string& where, const Error& error) {
    row.error = error.what();
    if (!row.error.starts_with(where)) row.error = where + ": " + row.error;
    ++report_.malformed;
  }

  std::string dataset_of(const Json& row, const std::string& file, const std::string& where) {
    std::string name = options_.dataset;
    const Json* field = any_field(row, {"dataset", "task"}, where);
    if (name.empty() && field && field->is_string()) name = field->get<std::string>();
    if (name.empty()) name = scorer_.unnamed(row);
    if (name.empty()) name = dataset_of_file(file);
    const std::string known = scorer_.find(name);
    if (known.empty()) {
      fail(
          "{}: '{}' is no data set of {}; name one by --dataset, by \"dataset\" in the rows or by "
          "the file's name: {}",
          where, name, report_.benchmark, fmt::join(scorer_.datasets(), ", "));
    }
    scorer_.check(known);
    return known;
  }

  Collected& collect(const std::string& dataset) {
    for (Collected& c : collected_) {
      if (c.name == dataset) return c;
    }
    collected_.push_back({dataset, {}, {}});
    return collected_.back();
  }

  Scorer& scorer_;
  const ScoreOptions& options_;
  ScoreReport& report_;
  std::vector<Collected> collected_;
};

}  // namespace

void ScoreOptions::visit(OptionVisitor& v) {
  v.text("dataset", "NAME", dataset,
         "data set of all rows (default: \"dataset\" in a row, or the file's name)");
  v.choice("code-similarity", code_similarity, {"difflib", "levenshtein"},
           "what LongBench's code metric compares with: fuzzywuzzy's two back-ends");
  v.choice("scorer", scorer, {"v1", "v2"}, "InfiniteBench's scorer: before August 2024, or since");
  v.text("jieba", "DIR", jieba,
         "directory with dict.txt and hmm.json, for LongBench's Chinese data sets");
  v.flag("raw", raw, "score RULER's predictions without its post-processing");
}

std::vector<std::string> score_benchmarks() {
  std::vector<std::string> names;
  for (const BenchmarkEntry& entry : benchmarks) names.emplace_back(entry.name);
  return names;
}

ScoreReport score_files(const std::string& benchmark, std::span<const std::string> files,
                        const ScoreOptions& options) {
  const std::unique_ptr<Scorer> scorer = make_scorer(benchmark, options);
  ScoreReport report;
  report.benchmark = benchmark;
  FileReader reader(*scorer, options, report);
  for (const std::string& file : files) reader.read(file);

  std::vector<Collected> collected = reader.take();
  const std::vector<std::string> order = scorer->datasets();
  const auto place = [&](const Collected& c) {
    return std::find(order.begin(), order.end(), c.name) - order.begin();
  };
  std::stable_sort(collected.begin(), collected.end(),
                   [&](const Collected& a, const Collected& b) { return place(a) < place(b); });
  for (const Collected& c : collected) {
    DatasetScore& score = report.datasets.emplace_back(scorer->summary(c));
    score.name = c.name;
    score.samples = c.samples.size();
  }
  if (!report.datasets.empty()) report.averages = scorer->averages(report.datasets);
  return report;
}

std::string score_report_json(const ScoreReport& report, const ScoreOptions& options) {
  using Ordered = nlohmann::ordered_json;
  Ordered out = {{"benchmark", report.benchmark}};
  if (report.benchmark == "longbench") out["code_similarity"] = options.code_similarity;
  if (report.benchmark == "infinitebench") out["scorer"] = options.scorer;
  if (report.benchmark == "ruler") out["raw"] = options.raw;
  out["datasets"] = Ordered::array();
  for (const DatasetScore& d : report.datasets) {
    Ordered row = {
        {"dataset", d.name}, {"metric", d.metric}, {"samples", d.samples}, {"score", d.score}};
    for (const auto& [group, score] : d.by_length) {
      row["by_length"][group] = score ? Ordered(*score) : Ordered();
    }
    out["datasets"].push_back(std::move(row));
  }
  out["averages"] = Ordered::array();
  for (const ScoreAverage& a : report.averages) {
    out["averages"].push_back({{"label", a.label},
                               {"datasets", a.datasets},
                               {"expected", a.expected},
                               {"score", a.score}});
  }
  out["malformed"] = Ordered::array();
  for (const RowScore& row : report.rows) {
    if (row.error.empty()) continue;
    out["malformed"].push_back({{"file", row.file}, {"line", row.line}, {"error", row.error}});
  }
  return out.dump(2, ' ', /*ensure_ascii=*/false, Ordered::error_handler_t::replace) + "\n";
}

}  // namespace fastkv
