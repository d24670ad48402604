#pragma once

#include <span>
#include <string>
#include <string_view>

// RULER's metrics (https://github.com/NVIDIA/RULER): reference strings found in the prediction,
// without regard to case.

namespace fastkv {

enum class RulerMetric {
  match_all,   // share of the references found
  match_part,  // whether any is found
};

struct RulerTask {
  std::string_view name;
  RulerMetric metric;
};

/// The 13 tasks in RULER's order.
std::span<const RulerTask> ruler_tasks();
/// nullptr where there is none.
const RulerTask* find_ruler_task(std::string_view name);

/// What RULER does to a prediction before it scores it: control characters become newlines, spaces
/// at both ends go.
std::string ruler_postprocess(std::string_view prediction);

/// One sample, in [0, 1]. Throws Error where there is no reference.
double string_match_all(std::string_view prediction, std::span<const std::string> references);
double string_match_part(std::string_view prediction, std::span<const std::string> references);
double ruler_sample(RulerMetric metric, std::string_view prediction,
                    std::span<const std::string> references);

/// 100 times the mean, rounded to two decimals. Not for an empty list.
double ruler_mean(std::span<const double> scores);

}  // namespace fastkv
