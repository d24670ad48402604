#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/row_fields.h"
#include "metrics/ruler_metrics.h"
#include "metrics/scorer.h"

// RULER: rows with an answer and its references ("pred", "outputs"), or with lists of both of no
// task ("preds", "refs").

namespace fastkv {
namespace {

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

  ScoredRow score(const std::string& name, const Json& row, const std::string& where) override {
    std::vector<std::string> predictions;
    std::vector<std::vector<std::string>> references;
    if (const Json* several = find_field(row, "preds", where)) {
      predictions = to_texts(*several, "preds", where);
      for (const Json& r : get_array(row, "refs", where)) {
        references.push_back(to_texts(r, "refs", where));
      }
    } else {
      predictions = {need_text(row, {"pred"}, where)};
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
    ScoredRow out;
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

  DatasetScore summary(const DatasetSamples& dataset) const override {
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

}  // namespace

std::unique_ptr<Scorer> ruler_scorer(const ScoreOptions& options) {
  return std::make_unique<RulerScorer>(options);
}

}  // namespace fastkv
