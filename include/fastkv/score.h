#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fastkv/error.h"
#include "fastkv/options.h"

// Scores answers that a model has given, as the benchmarks' own programs would. docs/scoring.md
// says what each number is.

namespace fastkv {

struct ScoreOptions {
  std::string dataset;
  std::string code_similarity = "difflib";
  std::string scorer = "v2";
  std::string jieba;
  bool raw = false;

  void visit(OptionVisitor& v);
};

/// A line of a file, as scored.
struct RowScore {
  std::string file;
  std::size_t line = 0;
  /// In the benchmark's unit for one row: LongBench and InfiniteBench 0 to 1, RULER 0 to 100,
  /// needle 0 to 10.
  double score = 0;
  std::vector<std::pair<std::string, double>> parts;  // further values, by name
  std::string error;  // why the row could not be scored; empty: it was
};

struct DatasetScore {
  std::string name;
  std::string metric;
  std::size_t samples = 0;
  double score = 0;  // 0 to 100, needle 0 to 10; rounded to two decimals
  /// LongBench-E's groups by input length, where the rows have lengths.
  std::vector<std::pair<std::string, std::optional<double>>> by_length;
};

struct ScoreAverage {
  std::string label;
  std::size_t datasets = 0;  // what it is the mean of
  std::size_t expected = 0;  // what a full run has
  double score = 0;
};

struct ScoreReport {
  std::string benchmark;
  std::vector<RowScore> rows;          // every line that is not blank, in order
  std::vector<DatasetScore> datasets;  // in the benchmark's order
  std::vector<ScoreAverage> averages;
  std::size_t malformed = 0;  // rows with an error, in no data set
};

/// The names that score_files() knows: longbench, ruler, needle, infinitebench.
std::vector<std::string> score_benchmarks();

/// Scores files of JSON Lines. Throws Error for what concerns a whole file: it cannot be read, its
/// data set is unknown, it has no rows.
ScoreReport score_files(const std::string& benchmark, std::span<const std::string> files,
                        const ScoreOptions& options);

/// The report without its rows, but with those in error, as indented JSON.
std::string score_report_json(const ScoreReport& report, const ScoreOptions& options);

}  // namespace fastkv
