#include "fastkv/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "eval/identity.h"
#include "eval/prompt.h"
#include "eval/summary.h"
#include "tasks/benchmark.h"

namespace fastkv {
namespace {

/// Needles with values of several kinds: what a layer must have found already.
constexpr const char* task_names[] = {"niah_single_2", "niah_multikey_1", "niah_multiquery",
                                      "niah_multivalue"};

std::vector<std::vector<TokenId>> make_prompts(const Engine& engine, const CalibrationOptions& o) {
  std::vector<std::vector<TokenId>> prompts;
  for (const std::string& file : o.prompt_files)
    prompts.push_back(engine.text().encode(read_text_file(file)));
  if (!prompts.empty()) return prompts;
  // Not the seed that evaluations have: a layer is not chosen on the samples it is judged by.
  const auto benchmark =
      make_benchmark("ruler", {{"seed", "20250"}, {"context", std::to_string(o.context)}});
  const Codec codec = make_codec(engine.text());
  std::vector<Issue> issues;
  const auto count = static_cast<std::int64_t>(std::size(task_names));
  for (std::int64_t i = 0; i < std::min(count, o.samples); ++i) {
    const auto take = [&](const Sample& sample) {
      const PromptLimits limits{0, engine.info().max_positions - sample.max_new_tokens};
      prompts.push_back(make_prompt(sample, engine.text(), Protocol::query_aware, limits).ids);
      return true;
    };
    benchmark->samples({.task = task_names[i],
                        .context = o.context,
                        .limit = (o.samples - i + count - 1) / count,
                        .skip = {}},
                       codec, take, issues);
  }
  return prompts;
}

std::vector<float> logits_of(Engine& engine, const MethodChoice& method,
                             const std::vector<TokenId>& prompt) {
  Session session = engine.start(method);
  session.append(prompt);
  return session.logits();
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(a.size());
}

std::ptrdiff_t most_likely(const std::vector<float>& logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

}  // namespace

Calibration calibrate(Engine& engine, const EngineOptions& loaded,
                      const CalibrationOptions& options, const ProgressCallback& progress) {
  const std::int64_t layers = engine.info().layers;
  const std::int64_t deepest =
      options.max_layer < 0 ? std::max<std::int64_t>(layers / 2 - 1, 0) : options.max_layer;
  if (deepest >= layers) {
    fail("--max-layer {} is outside the model, whose layers are 0 to {}", deepest, layers - 1);
  }
  const std::vector<std::vector<TokenId>> prompts = make_prompts(engine, options);
  std::vector<std::vector<double>> distances(static_cast<std::size_t>(deepest + 1));
  std::vector<double> same(distances.size(), 0.0);
  double done = 0.0;
  const double all = static_cast<double>(prompts.size()) * static_cast<double>(deepest + 2);
  for (const std::vector<TokenId>& prompt : prompts) {
    const std::vector<float> whole = logits_of(engine, {"full", {}}, prompt);
    if (progress) progress(++done / all);
    for (std::size_t layer = 0; layer < distances.size(); ++layer) {
      // What is kept for decoding does not touch the prompt's own logits; propagation does.
      const MethodChoice method{"fastkv",
                                {{"tsp-layer", std::to_string(layer)},
                                 {"tsp-rate", fmt::format("{}", options.tsp_rate)},
                                 {"retain", "1"}}};
      const std::vector<float> partial = logits_of(engine, method, prompt);
      distances[layer].push_back(squared_distance(whole, partial));
      same[layer] += most_likely(whole) == most_likely(partial) ? 1.0 : 0.0;
      if (progress) progress(++done / all);
    }
  }
  Calibration result;
  result.tsp_rate = options.tsp_rate;
  result.prompts = prompts.size();
  result.model = model_name(loaded);
  result.model_hash = model_hash(loaded);
  for (std::size_t layer = 0; layer < distances.size(); ++layer) {
    const Value mean = mean_of(distances[layer]);
    result.layers.push_back({static_cast<std::int64_t>(layer), mean.value, mean.error.value_or(0.0),
                             same[layer] / static_cast<double>(prompts.size())});
  }
  result.chosen = std::min_element(result.layers.begin(), result.layers.end(),
                                   [](const LayerDistance& a, const LayerDistance& b) {
                                     return a.distance < b.distance;
                                   })
                      ->layer;
  return result;
}

std::string Calibration::json() const {
  nlohmann::ordered_json json = {{"tsp_layer", chosen}, {"tsp_rate", tsp_rate},
                                 {"model", model},      {"model_hash", model_hash},
                                 {"prompts", prompts},  {"layers", Json::array()}};
  for (const LayerDistance& l : layers) {
    json["layers"].push_back({{"layer", l.layer},
                              {"distance", l.distance},
                              {"standard_error", l.error},
                              {"same_token", l.same_token}});
  }
  return json.dump(1) + "\n";
}

}  // namespace fastkv
