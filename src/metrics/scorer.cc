#include "metrics/scorer.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "metrics/python_text.h"

namespace fastkv {
namespace {

struct ScorerEntry {
  const char* name;
  std::unique_ptr<Scorer> (*make)(const ScoreOptions&);
};

constexpr ScorerEntry scorers[] = {
    {"longbench", longbench_scorer},
    {"ruler", ruler_scorer},
    {"needle", needle_scorer},
    {"infinitebench", infinitebench_scorer},
};

}  // namespace

std::vector<std::string> score_benchmarks() {
  std::vector<std::string> names;
  for (const ScorerEntry& entry : scorers) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Scorer> make_scorer(const std::string& benchmark, const ScoreOptions& options) {
  for (const ScorerEntry& entry : scorers) {
    if (entry.name == benchmark) return entry.make(options);
  }
  fail("there is no benchmark '{}'; the known ones are {}", benchmark,
       fmt::join(score_benchmarks(), ", "));
}

double mean_of(std::span<const DatasetScore> scores) {
  double sum = 0;
  for (const DatasetScore& s : scores) sum += s.score;
  return python_round(sum / static_cast<double>(scores.size()), 2);
}

}  // namespace fastkv
