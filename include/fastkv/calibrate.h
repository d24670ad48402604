#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fastkv/engine.h"

namespace fastkv {

struct CalibrationOptions {
  double tsp_rate = 0.2;
  std::int64_t max_layer = -1;
  std::int64_t samples = 4;
  std::int64_t context = 2048;
  std::vector<std::string> prompt_files;

  void visit(OptionVisitor& v) {
    v.number("tsp-rate", tsp_rate, unit_rate, "share of the tokens that goes on after the layer");
    v.integer("max-layer", max_layer, {.low = -1},
              "deepest layer that may be chosen, -1: the last of the first half");
    v.integer("samples", samples, {.low = 1, .high = 500}, "prompts that are made for it");
    v.integer("context", context, {.low = 300}, "their length in tokens");
    v.texts("prompt-file", "FILE", prompt_files, "use the prompt in this file instead");
  }
};

/// How far a prompt's logits move when only the salient tokens go on past a layer.
struct LayerDistance {
  std::int64_t layer = 0;
  double distance = 0.0;    // mean squared difference of the logits, over prompts
  double error = 0.0;       // its standard error; 0 for one prompt
  double same_token = 0.0;  // share of the prompts with the same most likely token
};
struct Calibration {
  std::vector<LayerDistance> layers;
  std::int64_t chosen = 0;  // the layer with the least distance
  double tsp_rate = 0.0;
  std::size_t prompts = 0;
  std::string model, model_hash;

  /// Read by --calibration of method fastkv.
  std::string json() const;
};

/// Finds the layer after which FastKV's propagation disturbs the answer least.
Calibration calibrate(Engine& engine, const EngineOptions& loaded,
                      const CalibrationOptions& options, const ProgressCallback& progress = {});

}  // namespace fastkv
