#include "fastkv/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "eval/identity.h"
#include "eval/prompt.h"
#include "eval/summary.h"
#include "methods/calibration.h"
#include "tasks/benchmark.h"

namespace fastkv {
namespace {

/// Needles with values of several kinds: what a layer must have found already.
constexpr const char* task_names[] = {"niah_single_2", "niah_multikey_1", "niah_multiquery",
                                      "niah_multivalue"};

std::vector<std::vector<TokenId>> make_prompts(const Engine& engine, const CalibrationOptions& o) {
  std::vector<std::vector<TokenId>> prompts;
  for (const std::string& file : o.prompt_files) {
    const std::string text = read_text_file(file);
    if (text.empty()) fail("{} is empty; give a prompt of which tokens can be left out", file);
    prompts.push_back(engine.text().encode(text));
  }
  if (!prompts.empty()) return prompts;
  if (o.context > engine.info().max_positions) {
    fail("--context {} is above the model's {} positions; take shorter prompts", o.context,
         engine.info().max_positions);
  }
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

/// How a prompt ends under a method.
struct Ending {
  std::vector<float> hidden;  // (H)
  std::ptrdiff_t token;       // the most likely next one
};
Ending run(Engine& engine, const MethodChoice& method, const std::vector<TokenId>& prompt) {
  Session session = engine.start(method);
  session.append(prompt);
  const std::vector<float> logits = session.logits();
  return {session.hidden(), std::max_element(logits.begin(), logits.end()) - logits.begin()};
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(a.size());
}

/// The method's row; Error where it has no layer to find.
MethodInfo calibrated_method(const Engine& engine, const std::string& name) {
  std::string known;
  for (const MethodInfo& info : engine.methods()) {
    if (info.layer_option.empty()) continue;
    if (info.name == name) return info;
    known += (known.empty() ? "" : ", ") + info.name;
  }
  fail("method {} has no layer to calibrate; these have: {}", name, known);
}

/// The share asked for, or the method's default.
double share_of(const CalibrationOptions& options, const MethodInfo& method) {
  if (options.share) return *options.share;
  for (const OptionInfo& option : method.options) {
    if (option.name == method.share_option) return std::stod(option.fallback);
  }
  return 1.0;
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
  const MethodInfo method = calibrated_method(engine, options.method);
  const double share = share_of(options, method);
  const std::vector<std::vector<TokenId>> prompts = make_prompts(engine, options);
  std::vector<std::vector<double>> distances(static_cast<std::size_t>(deepest + 1));
  std::vector<double> same(distances.size(), 0.0);
  double done = 0.0;
  const double all = static_cast<double>(prompts.size()) * static_cast<double>(deepest + 2);
  for (const std::vector<TokenId>& prompt : prompts) {
    // All tokens go on: the model as it is.
    const Ending whole = run(engine, {method.name, {{method.share_option, "1"}}}, prompt);
    if (progress) progress(++done / all);
    for (std::size_t layer = 0; layer < distances.size(); ++layer) {
      const Ending partial = run(engine,
                                 {method.name,
                                  {{method.layer_option, std::to_string(layer)},
                                   {method.share_option, fmt::format("{}", share)}}},
                                 prompt);
      distances[layer].push_back(squared_distance(whole.hidden, partial.hidden));
      same[layer] += whole.token == partial.token ? 1.0 : 0.0;
      if (progress) progress(++done / all);
    }
  }
  Calibration result;
  result.method = method.name;
  result.layer_option = method.layer_option;
  result.share_option = method.share_option;
  result.share = share;
  result.prompts = prompts.size();
  result.model = model_name(loaded);
  const ModelInfo& info = engine.info();
  result.model_shape = describe({info.layers, info.hidden_size, info.query_heads, info.kv_heads});
  result.model_hash = model_hash(loaded);
  for (std::size_t layer = 0; layer < distances.size(); ++layer) {
    const Value mean = mean_of(distances[layer]);
    result.layers.push_back({static_cast<std::int64_t>(layer), mean.value, mean.error.value_or(0.0),
                             same[layer] / static_cast<double>(prompts.size())});
  }
  const bool disturbed = std::any_of(result.layers.begin(), result.layers.end(),
                                     [](const LayerDistance& layer) { return layer.distance > 0; });
  if (!disturbed) {
    fail(
        "nothing was left out of these prompts, so no layer is better than another; give longer "
        "prompts, or a smaller --share");
  }
  result.chosen = std::min_element(result.layers.begin(), result.layers.end(),
                                   [](const LayerDistance& a, const LayerDistance& b) {
                                     return a.distance < b.distance;
                                   })
                      ->layer;
  return result;
}

std::string Calibration::json() const {
  nlohmann::ordered_json json = {
      {"method", method},   {json_key(layer_option), chosen}, {json_key(share_option), share},
      {"model", model},     {"model_shape", model_shape},     {"model_hash", model_hash},
      {"prompts", prompts}, {"layers", Json::array()}};
  for (const LayerDistance& l : layers) {
    json["layers"].push_back({{"layer", l.layer},
                              {"distance", l.distance},
                              {"standard_error", l.error},
                              {"same_token", l.same_token}});
  }
  return json.dump(1) + "\n";
}

}  // namespace fastkv
