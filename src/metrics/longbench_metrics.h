#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/segmenter.h"

// LongBench's metrics (https://github.com/THUDM/LongBench, metrics.py), to the last bit: the
// quirks of the original and of the libraries below it are kept, because published numbers have
// them. Every metric is in [0, 1]. docs/scoring.md lists what is unusual.

namespace fastkv {

/// The library that fuzzywuzzy computes the similarity of two lines of code with.
enum class CodeSimilarity {
  difflib,      // what is there without python-Levenshtein
  levenshtein,  // with python-Levenshtein
};

// One prediction against one answer.

/// F1 over words without case, punctuation and articles.
double qa_f1(std::string_view prediction, std::string_view answer);
double qa_f1_zh(std::string_view prediction, std::string_view answer, const Segmenter& segmenter);
/// ROUGE-L F as the package rouge 1.0.1 computes it: over sets of words. 0 where it would fail;
/// without Python's recursion limit, which turns very long sentences into 0 there.
double rouge_l(std::string_view prediction, std::string_view answer);
double rouge_l_zh(std::string_view prediction, std::string_view answer, const Segmenter& segmenter);
/// 1/n if the answer is among the n classes that the prediction names.
double classification(std::string_view prediction, std::string_view answer,
                      std::span<const std::string> classes);
/// Share of the numbers in the prediction that equal the answer's paragraph number. Throws Error
/// for an answer without one.
double retrieval(std::string_view prediction, std::string_view answer);
double retrieval_zh(std::string_view prediction, std::string_view answer);
/// Share of the numbers in the prediction that equal the answer.
double count_score(std::string_view prediction, std::string_view answer);
/// Similarity of the prediction's first line of code with the answer, in hundredths.
double code_similarity(std::string_view prediction, std::string_view answer, CodeSimilarity kind);

// Data sets.

enum class LongBenchMetric {
  qa_f1,
  qa_f1_zh,
  rouge_l,
  rouge_l_zh,
  classification,
  retrieval,
  retrieval_zh,
  count,
  code_similarity,
};

/// How people call a metric, e.g. "F1".
std::string_view metric_name(LongBenchMetric metric);

struct LongBenchDataset {
  std::string_view name;
  LongBenchMetric metric;
  std::string_view category;  // one of LongBench's six, e.g. "single-document QA"
  bool chinese;               // not one of the 16 English and code data sets
  bool first_line;            // only the first line of a prediction counts
};

/// All 21, in LongBench's order.
std::span<const LongBenchDataset> longbench_datasets();
/// nullptr where there is none; LongBench-E's names ("qasper_e") are the same data sets.
const LongBenchDataset* find_longbench_dataset(std::string_view name);

/// What some metrics need besides the two texts.
struct LongBenchContext {
  std::span<const std::string> classes;
  CodeSimilarity code = CodeSimilarity::difflib;
  const Segmenter* segmenter = nullptr;  // for the Chinese data sets; Error where it is missing
};

/// The data set's metric on the two texts as they are.
double longbench_metric(const LongBenchDataset& dataset, std::string_view prediction,
                        std::string_view answer, const LongBenchContext& context);
/// A sample's score: the first-line rule, then the maximum of 0 and the metric over the answers.
double longbench_sample(const LongBenchDataset& dataset, std::string_view prediction,
                        std::span<const std::string> answers, const LongBenchContext& context);

/// 100 times the mean, rounded to two decimals as the reference does. Not for an empty list.
double longbench_mean(std::span<const double> scores);

/// LongBench-E's groups by the length of the input in words (characters for Chinese).
struct LongBenchByLength {
  std::optional<double> below_4k;  // length < 4000
  std::optional<double> below_8k;  // length < 8000
  std::optional<double> above;     // the rest; none: no sample of that length
};
/// `lengths` has one entry for each score.
LongBenchByLength longbench_by_length(std::span<const double> scores,
                                      std::span<const std::int64_t> lengths);

/// A data set's score, 0 to 100.
struct LongBenchScore {
  const LongBenchDataset* dataset = nullptr;
  double score = 0;
};
/// A mean over data sets, and of how many it is; none where there is nothing to average.
struct LongBenchAverage {
  std::string label;  // e.g. "multi-document QA"
  std::size_t datasets = 0;
  std::size_t expected = 0;
  double score = 0;
};
/// The six categories' means, then the mean of these, then the mean over data sets, all over the
/// 16 English and code data sets; a mean over the Chinese ones at the end. Only those that have a
/// data set.
std::vector<LongBenchAverage> longbench_averages(std::span<const LongBenchScore> scores);

}  // namespace fastkv
