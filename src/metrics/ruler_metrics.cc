#include "metrics/ruler_metrics.h"

#include <algorithm>

#include "core/error.h"
#include "metrics/python_text.h"

namespace fastkv {
namespace {

constexpr RulerTask table[] = {
    {"niah_single_1", RulerMetric::match_all},
    {"niah_single_2", RulerMetric::match_all},
    {"niah_single_3", RulerMetric::match_all},
    {"niah_multikey_1", RulerMetric::match_all},
    {"niah_multikey_2", RulerMetric::match_all},
    {"niah_multikey_3", RulerMetric::match_all},
    {"niah_multivalue", RulerMetric::match_all},
    {"niah_multiquery", RulerMetric::match_all},
    {"vt", RulerMetric::match_all},
    {"cwe", RulerMetric::match_all},
    {"fwe", RulerMetric::match_all},
    {"qa_1", RulerMetric::match_part},
    {"qa_2", RulerMetric::match_part},
};

std::size_t references_found(std::string_view prediction, std::span<const std::string> references) {
  if (references.empty()) fail("a RULER sample must have at least one reference string.");
  const std::string text = python_lower(prediction);
  return static_cast<std::size_t>(
      std::count_if(references.begin(), references.end(),
                    [&](const std::string& r) { return text.find(python_lower(r)) != text.npos; }));
}

}  // namespace

std::span<const RulerTask> ruler_tasks() { return table; }

const RulerTask* find_ruler_task(std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const RulerTask& t) { return t.name == name; });
  return found == std::end(table) ? nullptr : found;
}

std::string ruler_postprocess(std::string_view prediction) {
  std::string text(python_strip(prediction));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = '\n';
  }
  return std::string(python_strip(text));
}

double string_match_all(std::string_view prediction, std::span<const std::string> references) {
  return static_cast<double>(references_found(prediction, references)) /
         static_cast<double>(references.size());
}

double string_match_part(std::string_view prediction, std::span<const std::string> references) {
  return references_found(prediction, references) > 0 ? 1.0 : 0.0;
}

double ruler_sample(RulerMetric metric, std::string_view prediction,
                    std::span<const std::string> references) {
  return metric == RulerMetric::match_all ? string_match_all(prediction, references)
                                          : string_match_part(prediction, references);
}

double ruler_mean(std::span<const double> scores) {
  double sum = 0;
  for (const double s : scores) sum += s;
  return python_round(sum / static_cast<double>(scores.size()) * 100, 2);
}

}  // namespace fastkv
