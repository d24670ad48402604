#include <nlohmann/json.hpp>

#include "core/json.h"
#include "metrics/needle_metric.h"
#include "metrics/python_text.h"
#include "metrics/row_fields.h"
#include "metrics/scorer.h"

// Needle in a haystack: rows with an answer and, where it is not the usual one, the needle.

namespace fastkv {
namespace {

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

  ScoredRow score(const std::string&, const Json& row, const std::string& where) override {
    const std::string needle =
        find_string(row, "needle", where).value_or(std::string(default_needle()));
    const NeedleScore s =
        needle_score(needle, need_text(row, {"response", "model_response", "pred"}, where));
    return {.samples = {s.score},
            .score = s.score,
            .parts = {{"overlap", static_cast<double>(s.overlap)},
                      {"precision", s.precision},
                      {"recall", s.recall}},
            .length = std::nullopt};
  }

  DatasetScore summary(const DatasetSamples& dataset) const override {
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

}  // namespace

std::unique_ptr<Scorer> needle_scorer(const ScoreOptions&) {
  return std::make_unique<NeedleScorer>();
}

}  // namespace fastkv
