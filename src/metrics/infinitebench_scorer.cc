#include <nlohmann/json.hpp>

#include "core/json.h"
#include "metrics/infinitebench_metrics.h"
#include "metrics/python_text.h"
#include "metrics/row_fields.h"
#include "metrics/scorer.h"

// InfiniteBench: rows as its own program leaves them ("prediction", "ground_truth").

namespace fastkv {
namespace {

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

  ScoredRow score(const std::string& name, const Json& row, const std::string& where) override {
    const std::string prediction = need_text(row, {"prediction", "pred"}, where);
    const Json& label = need_field(row, {"ground_truth", "label", "answers"}, where);
    ScoredRow out;
    out.score = infinitebench_score(*find_infinitebench_task(name), prediction, label, scorer_);
    out.samples = {out.score};
    return out;
  }

  DatasetScore summary(const DatasetSamples& dataset) const override {
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

}  // namespace

std::unique_ptr<Scorer> infinitebench_scorer(const ScoreOptions& options) {
  return std::make_unique<InfiniteBenchFileScorer>(options);
}

}  // namespace fastkv
