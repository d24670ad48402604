#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

// InfiniteBench's scorers (https://github.com/OpenBMB/InfiniteBench, compute_scores.py). Every
// score is in [0, 1].

namespace fastkv {

enum class InfiniteBenchScorer {
  v1,  // before August 2024; the tables of its README were made with it
  v2,  // since
};

struct InfiniteBenchTask {
  std::string_view name;    // "longbook_qa_eng"
  std::string_view paper;   // "En.QA"
  std::string_view metric;  // "token F1"
};

/// The 12 tasks in the paper's order.
std::span<const InfiniteBenchTask> infinitebench_tasks();
/// nullptr where there is none.
const InfiniteBenchTask* find_infinitebench_task(std::string_view name);

/// One row. `label` is the row's ground truth as the files have it: a value or a list; for
/// code_debug and longbook_choice_eng the list [text, letter]. Numbers may be written as strings
/// where the task wants numbers. Throws Error for a label of another form.
/// `drops_first`: math_calc leaves out the prediction's first number, which the reference does for
/// a model named gpt4 alone.
double infinitebench_score(const InfiniteBenchTask& task, std::string_view prediction,
                           const nlohmann::json& label, InfiniteBenchScorer scorer,
                           bool drops_first = false);

// The scores that others may want by themselves.

/// F1 over words, maximum over the labels; 0 for no labels.
double infinitebench_qa_eng(std::string_view prediction, std::span<const std::string> labels);
/// F1 over characters, maximum over the labels.
double infinitebench_qa_chn(std::string_view prediction, std::span<const std::string> labels);
/// ROUGE-Lsum F as Google's rouge_score computes it, without stemming; sentences are lines.
double rouge_lsum(std::string_view prediction, std::string_view reference);

/// Mean of the rows' scores, in [0, 1]. Not for an empty list.
double infinitebench_mean(std::span<const double> scores);

}  // namespace fastkv
