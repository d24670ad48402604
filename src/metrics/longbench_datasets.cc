// From metrics of single pairs to numbers of data sets, and means of these.

#include <algorithm>
#include <array>

#include "core/error.h"
#include "metrics/longbench_metrics.h"
#include "metrics/python_text.h"

namespace fastkv {
namespace {

constexpr std::string_view single_document = "single-document QA";
constexpr std::string_view multi_document = "multi-document QA";
constexpr std::string_view summaries = "summarization";
constexpr std::string_view few_shot = "few-shot learning";
constexpr std::string_view synthetic = "synthetic tasks";
constexpr std::string_view code = "code completion";
constexpr std::array categories = {single_document, multi_document, summaries,
                                   few_shot,        synthetic,      code};

using M = LongBenchMetric;
constexpr LongBenchDataset table[] = {
    // name, metric, category, Chinese, first line only
    {"narrativeqa", M::qa_f1, single_document, false, false},
    {"qasper", M::qa_f1, single_document, false, false},
    {"multifieldqa_en", M::qa_f1, single_document, false, false},
    {"multifieldqa_zh", M::qa_f1_zh, single_document, true, false},
    {"hotpotqa", M::qa_f1, multi_document, false, false},
    {"2wikimqa", M::qa_f1, multi_document, false, false},
    {"musique", M::qa_f1, multi_document, false, false},
    {"dureader", M::rouge_l_zh, multi_document, true, false},
    {"gov_report", M::rouge_l, summaries, false, false},
    {"qmsum", M::rouge_l, summaries, false, false},
    {"multi_news", M::rouge_l, summaries, false, false},
    {"vcsum", M::rouge_l_zh, summaries, true, false},
    {"trec", M::classification, few_shot, false, true},
    {"triviaqa", M::qa_f1, few_shot, false, true},
    {"samsum", M::rouge_l, few_shot, false, true},
    {"lsht", M::classification, few_shot, true, true},
    {"passage_count", M::count, synthetic, false, false},
    {"passage_retrieval_en", M::retrieval, synthetic, false, false},
    {"passage_retrieval_zh", M::retrieval_zh, synthetic, true, false},
    {"lcc", M::code_similarity, code, false, false},
    {"repobench-p", M::code_similarity, code, false, false},
};

const Segmenter& need_segmenter(const LongBenchDataset& dataset, const LongBenchContext& context) {
  if (!context.segmenter) {
    fail("{} is scored by Chinese words; name a directory with jieba's dict.txt and hmm.json.",
         dataset.name);
  }
  return *context.segmenter;
}

}  // namespace

std::string_view metric_name(LongBenchMetric metric) {
  switch (metric) {
    case M::qa_f1:
      return "F1";
    case M::qa_f1_zh:
      return "F1 (jieba words)";
    case M::rouge_l:
      return "ROUGE-L";
    case M::rouge_l_zh:
      return "ROUGE-L (jieba words)";
    case M::classification:
      return "classes";
    case M::retrieval:
    case M::retrieval_zh:
      return "paragraph";
    case M::count:
      return "count";
    case M::code_similarity:
      return "edit similarity";
  }
  return {};
}

std::span<const LongBenchDataset> longbench_datasets() { return table; }

const LongBenchDataset* find_longbench_dataset(std::string_view name) {
  if (name.ends_with("_e")) name.remove_suffix(2);
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const LongBenchDataset& d) { return d.name == name; });
  return found == std::end(table) ? nullptr : found;
}

double longbench_metric(const LongBenchDataset& dataset, std::string_view prediction,
                        std::string_view answer, const LongBenchContext& context) {
  switch (dataset.metric) {
    case M::qa_f1:
      return qa_f1(prediction, answer);
    case M::qa_f1_zh:
      return qa_f1_zh(prediction, answer, need_segmenter(dataset, context));
    case M::rouge_l:
      return rouge_l(prediction, answer);
    case M::rouge_l_zh:
      return rouge_l_zh(prediction, answer, need_segmenter(dataset, context));
    case M::classification:
      return classification(prediction, answer, context.classes);
    case M::retrieval:
      return retrieval(prediction, answer);
    case M::retrieval_zh:
      return retrieval_zh(prediction, answer);
    case M::count:
      return count_score(prediction, answer);
    case M::code_similarity:
      return code_similarity(prediction, answer, context.code);
  }
  return 0.0;
}

double longbench_sample(const LongBenchDataset& dataset, std::string_view prediction,
                        std::span<const std::string> answers, const LongBenchContext& context) {
  if (dataset.first_line) {
    prediction.remove_prefix(std::min(prediction.find_first_not_of('\n'), prediction.size()));
    prediction = prediction.substr(0, prediction.find('\n'));
  }
  double best = 0.0;
  for (const std::string& answer : answers) {
    best = std::max(best, longbench_metric(dataset, prediction, answer, context));
  }
  return best;
}

double longbench_mean(std::span<const double> scores) {
  double sum = 0;
  for (const double s : scores) sum += s;
  return python_round(100 * sum / static_cast<double>(scores.size()), 2);
}

LongBenchByLength longbench_by_length(std::span<const double> scores,
                                      std::span<const std::int64_t> lengths) {
  std::array<std::vector<double>, 3> groups;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    groups[lengths[i] < 4000 ? 0 : lengths[i] < 8000 ? 1 : 2].push_back(scores[i]);
  }
  const auto mean = [](const std::vector<double>& group) -> std::optional<double> {
    if (group.empty()) return std::nullopt;
    double sum = 0;
    for (const double s : group) sum += s;
    // The mean comes first here, unlike in longbench_mean().
    return python_round(100 * (sum / static_cast<double>(group.size())), 2);
  };
  return {mean(groups[0]), mean(groups[1]), mean(groups[2])};
}

std::vector<LongBenchAverage> longbench_averages(std::span<const LongBenchScore> scores) {
  const auto mean = [](std::string label, const std::vector<double>& values,
                       std::size_t expected) -> LongBenchAverage {
    double sum = 0;
    for (const double v : values) sum += v;
    return {std::move(label), values.size(), expected,
            python_round(sum / static_cast<double>(values.size()), 2)};
  };
  const auto count = [](auto&& wanted) {
    return static_cast<std::size_t>(std::count_if(std::begin(table), std::end(table), wanted));
  };

  std::vector<LongBenchAverage> averages;
  std::vector<double> by_category;
  for (const std::string_view category : categories) {
    const auto wanted = [&](const LongBenchDataset& d) {
      return !d.chinese && d.category == category;
    };
    std::vector<double> values;
    for (const LongBenchScore& s : scores) {
      if (wanted(*s.dataset)) values.push_back(s.score);
    }
    if (values.empty()) continue;
    averages.push_back(mean(std::string(category), values, count(wanted)));
    double sum = 0;
    for (const double v : values) sum += v;
    by_category.push_back(sum / static_cast<double>(values.size()));
  }
  if (!by_category.empty()) {
    averages.push_back(mean("mean of the categories", by_category, categories.size()));
  }
  for (const bool chinese : {false, true}) {
    const auto wanted = [&](const LongBenchDataset& d) { return d.chinese == chinese; };
    std::vector<double> values;
    for (const LongBenchScore& s : scores) {
      if (wanted(*s.dataset)) values.push_back(s.score);
    }
    if (values.empty()) continue;
    averages.push_back(
        mean(chinese ? "mean of the Chinese data sets" : "mean of the English and code data sets",
             values, count(wanted)));
  }
  return averages;
}

}  // namespace fastkv
