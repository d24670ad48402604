#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace fastkv {

/// How positions are rotated into queries and keys.
struct RopeConfig {
  enum class Type { standard, linear, llama3 };
  Type type = Type::standard;
  double theta = 10000.0;
  double factor = 1.0;                         // linear, llama3
  double low_freq_factor = 1.0;                // llama3
  double high_freq_factor = 4.0;               // llama3
  std::int64_t original_max_positions = 8192;  // llama3
};

/// What a model is. Architecture is data: a related family is other values of these fields.
struct ModelConfig {
  std::string architecture;            // e.g. LlamaForCausalLM
  std::int64_t vocab_size = 0;         // V
  std::int64_t hidden_size = 0;        // H
  std::int64_t intermediate_size = 0;  // I
  std::int64_t layers = 0;
  std::int64_t query_heads = 0;  // Hq
  std::int64_t kv_heads = 0;     // Hkv
  std::int64_t head_dim = 0;     // D
  double norm_epsilon = 1e-5;
  RopeConfig rope;
  std::int64_t max_positions = 0;
  bool tied_embeddings = false;
  bool attention_bias = false;
  /// Sliding window of each layer, 0 where the layer sees everything.
  std::vector<std::int64_t> sliding_window;
  DType stored_type = DType::bf16;
  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;

  std::int64_t group() const { return query_heads / kv_heads; }
  std::int64_t qkv_rows() const { return (query_heads + 2 * kv_heads) * head_dim; }
  /// Parameters of the linear layers and the head, without the embedding look-up.
  std::int64_t linear_parameters() const;
};

/// Reads config.json (both the older and the newer form of rope and dtype fields) and, where it
/// exists, generation_config.json (end tokens). Throws Error for what is missing, out of range or
/// not supported, by name.
ModelConfig load_config(const std::filesystem::path& directory);
/// The same from config.json's text; `where` names it in messages.
ModelConfig parse_config(std::string_view json, std::string_view where);

/// Shapes that can be run without a checkpoint.
std::vector<std::string_view> preset_names();
/// Throws Error that lists the known names.
ModelConfig preset_config(std::string_view name);

/// Rotation per position of each pair of coordinates, (D / 2) float32 values computed in float64.
std::vector<float> rope_frequencies(const ModelConfig& config);

}  // namespace fastkv
