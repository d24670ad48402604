#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "model/config.h"

namespace fastkv {
namespace {

/// The rotation of the Llama 3.1 and 3.2 families; they differ in the factor only.
RopeConfig llama3_rope(double factor) {
  return {.type = RopeConfig::Type::llama3,
          .theta = 500000.0,
          .factor = factor,
          .low_freq_factor = 1.0,
          .high_freq_factor = 4.0,
          .original_max_positions = 8192};
}

/// What the four shapes have in common: 32 query and 8 key/value heads of 128.
ModelConfig common(std::string_view architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.query_heads = 32;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.norm_epsilon = 1e-5;
  config.max_positions = 131072;
  return config;
}

ModelConfig llama(ModelConfig config) {
  config.vocab_size = 128256;
  config.bos_id = 128000;
  config.eos_ids = {128001, 128008, 128009};
  return config;
}

ModelConfig mistral(ModelConfig config) {
  config.vocab_size = 131072;
  config.bos_id = 1;
  config.eos_ids = {2};
  return config;
}

// meta-llama/Llama-3.1-8B-Instruct
ModelConfig llama_3_1_8b() {
  ModelConfig config = llama(common("LlamaForCausalLM"));
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.layers = 32;
  config.rope = llama3_rope(8.0);
  return config;
}

// meta-llama/Llama-3.2-1B-Instruct
ModelConfig llama_3_2_1b() {
  ModelConfig config = llama(common("LlamaForCausalLM"));
  config.hidden_size = 2048;
  config.intermediate_size = 8192;
  config.layers = 16;
  config.head_dim = 64;
  config.rope = llama3_rope(32.0);
  config.tied_embeddings = true;
  return config;
}

// mistralai/Ministral-8B-Instruct-2410: its config.json says 32K positions and one window of 32K
// for all layers, though the model was trained with 128K on every fourth layer.
ModelConfig ministral_8b() {
  ModelConfig config = mistral(common("MistralForCausalLM"));
  config.hidden_size = 4096;
  config.intermediate_size = 12288;
  config.layers = 36;
  config.rope.theta = 1e8;
  config.max_positions = 32768;
  config.sliding_window.assign(static_cast<std::size_t>(config.layers), 32768);
  return config;
}

// mistralai/Mistral-Nemo-Instruct-2407
ModelConfig nemo_12b() {
  ModelConfig config = mistral(common("MistralForCausalLM"));
  config.hidden_size = 5120;
  config.intermediate_size = 14336;
  config.layers = 40;
  config.rope.theta = 1e6;
  return config;
}

struct Preset {
  std::string_view name;
  ModelConfig (*make)();
};
constexpr auto presets = std::to_array<Preset>({
    {"llama-3.1-8b", llama_3_1_8b},
    {"llama-3.2-1b", llama_3_2_1b},
    {"ministral-8b", ministral_8b},
    {"nemo-12b", nemo_12b},
});

}  // namespace

std::vector<std::string_view> preset_names() {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets) names.push_back(preset.name);
  return names;
}

ModelConfig preset_config(std::string_view name) {
  for (const Preset& preset : presets) {
    if (preset.name != name) continue;
    ModelConfig config = preset.make();
    // Every layer has an entry, 0 where it sees everything.
    config.sliding_window.resize(static_cast<std::size_t>(config.layers), 0);
    return config;
  }
  fail("There is no preset \"{}\"; known are {}.", name, fmt::join(preset_names(), ", "));
}

}  // namespace fastkv
