#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fastkv/engine.h"

namespace fastkv {

struct CalibrationOptions {
  std::string method = "fastkv";
  std::optional<double> share;
  std::int64_t max_layer = -1;
  std::int64_t samples = 4;
  std::int64_t context = 2048;
  std::vector<std::string> prompt_files;

  void visit(OptionVisitor& v) {
    v.text("method", "NAME", method, "method whose layer is looked for");
    v.number("share", share, unit_rate,
             "share of the tokens that goes on after the layer (default: the method's)");
    v.integer("max-layer", max_layer, {.low = -1},
              "deepest layer that may be chosen, -1: the last of the first half");
    v.integer("samples", samples, {.low = 1, .high = 500}, "prompts that are made for it");
    v.integer("context", context, {.low = 300}, "their length in tokens");
    v.texts("prompt-file", "FILE", prompt_files, "use the prompt in this file instead");
  }
};

/// How far the final hidden state of a prompt's last token moves when only the salient tokens go on
/// past a layer.
struct LayerDistance {
  std::int64_t layer = 0;
  double distance = 0.0;    // mean squared difference over its elements, then over prompts
  double error = 0.0;       // its standard error; 0 for one prompt
  double same_token = 0.0;  // share of the prompts with the same most likely token
};
struct Calibration {
  std::vector<LayerDistance> layers;
  std::int64_t chosen = 0;  // the layer with the least distance
  std::string method, layer_option, share_option;
  double share = 0.0;
  std::size_t prompts = 0;
  std::string model, model_shape, model_hash;

  /// Read by --calibration of the method.
  std::string json() const;
};

/// Finds the layer after which a method's selection disturbs the answer least (as FastKV's authors
/// do for the TSP layer, arXiv 2502.01068). Throws Error for a method that has no such layer.
Calibration calibrate(Engine& engine, const EngineOptions& loaded,
                      const CalibrationOptions& options, const ProgressCallback& progress = {});

}  // namespace fastkv
