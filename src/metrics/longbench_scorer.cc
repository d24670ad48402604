#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/longbench_metrics.h"
#include "metrics/row_fields.h"
#include "metrics/scorer.h"
#include "metrics/segmenter.h"

// LongBench: rows with an answer and all its references ("pred", "answers"), or with one pair
// ("prediction", "ground_truth").

namespace fastkv {
namespace {

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
  /// LongBench-E's data sets have the names of LongBench's and "_e" behind them, and scores of
  /// their own.
  std::string find(const std::string& name) const override {
    return find_longbench_dataset(name) ? name : std::string();
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

  ScoredRow score(const std::string& name, const Json& row, const std::string& where) override {
    const LongBenchDataset& dataset = *find_longbench_dataset(name);
    LongBenchContext context = {.classes = {}, .code = code_};
    if (segmenter_) context.segmenter = &*segmenter_;
    std::vector<std::string> classes;
    if (dataset.metric == LongBenchMetric::classification) {
      classes = to_texts(need_field(row, {"all_classes"}, where), "all_classes", where);
      context.classes = classes;
    }
    ScoredRow out;
    // A pair is scored as it is; a model's answer goes through the benchmark's rules.
    if (find_field(row, "prediction", where)) {
      out.score = longbench_metric(dataset, need_text(row, {"prediction"}, where),
                                   need_text(row, {"ground_truth"}, where), context);
    } else {
      const std::string prediction = need_text(row, {"pred", "prediction"}, where);
      const auto answers = to_texts(need_field(row, {"answers"}, where), "answers", where);
      out.score = longbench_sample(dataset, prediction, answers, context);
    }
    out.samples = {out.score};
    out.length = find_int(row, "length", where);
    return out;
  }

  DatasetScore summary(const DatasetSamples& dataset) const override {
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
      if (s.name.ends_with("_e")) continue;
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

}  // namespace

std::unique_ptr<Scorer> longbench_scorer(const ScoreOptions& options) {
  return std::make_unique<LongBenchScorer>(options);
}

}  // namespace fastkv
