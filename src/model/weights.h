#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "model/config.h"

namespace fastkv {

/// Weights of one transformer layer. Matrices stay in the type they are stored in; vectors are
/// float32.
struct LayerWeights {
  View attention_norm;  // (H)
  Matrix qkv;           // (Hq * D + 2 * Hkv * D, H), query rows first, then key, then value
  View qkv_bias;        // (Hq * D + 2 * Hkv * D), empty without bias
  Matrix output;        // (H, Hq * D)
  View mlp_norm;        // (H)
  Matrix gate_up;       // (2 I, H), gate rows first
  Matrix down;          // (H, I)
};

/// All weights of a model and the memory (mapped files or own) that holds them.
struct Weights {
  View embedding;  // (V, H)
  std::vector<LayerWeights> layers;
  View final_norm;        // (H)
  Matrix head;            // (V, H); the embedding where tied
  View rope_frequencies;  // (D / 2) float32

  std::vector<std::shared_ptr<const void>> memory;  // keeps the views alive
  std::size_t bytes = 0;                            // of all weights as stored here
};

/// Called with the share that is done, 0 to 1.
using Progress = std::function<void(double)>;

/// Reads the tensors of a Hugging Face directory, memory-mapped: one model.safetensors or many with
/// model.safetensors.index.json. With `type` bf16, matrices stored as float32 or float16 are
/// converted; with f32 everything stays as stored (the engine computes in float32 then).
/// Throws Error for a missing, misnamed, mis-shaped, truncated or overlapping tensor.
Weights load_weights(const std::filesystem::path& directory, const ModelConfig& config, DType type,
                     const Progress& progress = {});

/// Weights of the given shape drawn from a normal distribution (seeded, reproducible), scaled so
/// that activations stay finite through any depth.
Weights random_weights(const ModelConfig& config, DType type, std::uint64_t seed,
                       const Progress& progress = {});

}  // namespace fastkv
