#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "fastkv/score.h"

namespace fastkv {

/// What a row comes to.
struct ScoredRow {
  std::vector<double> samples;  // 0 to 1 each; most rows have one
  double score = 0;             // of the row, in the benchmark's unit
  std::vector<std::pair<std::string, double>> parts;
  std::optional<std::int64_t> length;
};

/// The samples of a data set, in the order of the files.
struct DatasetSamples {
  std::string name;
  std::vector<double> samples;
  std::vector<std::int64_t> lengths;  // one for each sample, or fewer: then of no use
};

/// A benchmark, as far as scoring goes: it knows data sets and rows, but no files.
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
  virtual ScoredRow score(const std::string& dataset, const Json& row,
                          const std::string& where) = 0;
  virtual DatasetScore summary(const DatasetSamples& dataset) const = 0;
  virtual std::vector<ScoreAverage> averages(std::span<const DatasetScore> scores) const = 0;
};

// One function a benchmark, defined in the benchmark's own file; scorer.cc lists them.
std::unique_ptr<Scorer> longbench_scorer(const ScoreOptions& options);
std::unique_ptr<Scorer> ruler_scorer(const ScoreOptions& options);
std::unique_ptr<Scorer> needle_scorer(const ScoreOptions& options);
std::unique_ptr<Scorer> infinitebench_scorer(const ScoreOptions& options);

/// The scorer of one of score_benchmarks(). Throws Error where there is none of that name.
std::unique_ptr<Scorer> make_scorer(const std::string& benchmark, const ScoreOptions& options);

/// Of the data sets' scores, rounded to two decimals. Not for an empty list.
double mean_of(std::span<const DatasetScore> scores);

}  // namespace fastkv
