#include "model/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"
#include "core/json.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;

/// A family of checkpoints, and what its config.json means by fields it leaves out.
struct Architecture {
  std::string_view name;        // in "architectures"
  std::string_view model_type;  // where "architectures" is missing
  std::int64_t kv_heads;        // 0: as many as query heads
  std::int64_t max_positions;
  std::int64_t sliding_window;  // 0: none
};
constexpr auto architectures = std::to_array<Architecture>({
    {"LlamaForCausalLM", "llama", 0, 2048, 0},
    {"MistralForCausalLM", "mistral", 8, 131072, 4096},
});

// Bounds far above any real model. They keep every product of sizes, in bytes and over all layers,
// inside 64 bits, so that nothing after this file has to think about overflow.
constexpr std::int64_t max_vocab = std::int64_t{1} << 24;
constexpr std::int64_t max_hidden = std::int64_t{1} << 20;
constexpr std::int64_t max_intermediate = std::int64_t{1} << 22;
constexpr std::int64_t max_layers = std::int64_t{1} << 12;
constexpr std::int64_t max_heads = std::int64_t{1} << 12;
constexpr std::int64_t max_head_dim = std::int64_t{1} << 12;
constexpr std::int64_t max_position_limit = std::numeric_limits<std::int32_t>::max();

/// config.json while it is read: the object and its name in messages.
struct Source {
  const Json& json;
  std::string_view where;

  std::int64_t in_range(std::int64_t value, std::string_view key, std::int64_t largest) const {
    if (value < 1 || value > largest) {
      fail("{}: {} is {}; it must be from 1 to {}.", where, key, value, largest);
    }
    return value;
  }
  std::int64_t size(std::string_view key, std::int64_t largest) const {
    return in_range(get_int(json, key, where), key, largest);
  }
  std::int64_t size_or(std::string_view key, std::int64_t largest, std::int64_t otherwise) const {
    return in_range(find_int(json, key, where).value_or(otherwise), key, largest);
  }
};

const Architecture& read_architecture(const Source& s) {
  std::vector<std::string> names;
  const Json* list = find_field(s.json, "architectures", s.where);
  if (list && !list->empty()) {
    for (const Json& name : get_array(s.json, "architectures", s.where)) {
      names.push_back(to_text(name, "architectures", s.where));
    }
  } else {
    names.push_back(get_string(s.json, "model_type", s.where));
  }
  for (const Architecture& known : architectures) {
    const bool by_name = std::find(names.begin(), names.end(), known.name) != names.end();
    if (by_name || (!list && names.front() == known.model_type)) return known;
  }
  std::vector<std::string_view> supported;
  for (const Architecture& known : architectures) supported.push_back(known.name);
  fail("{}: architecture {} is not supported; supported are {}.", s.where, fmt::join(names, ", "),
       fmt::join(supported, ", "));
}

DType read_stored_type(const Source& s) {
  auto name = find_string(s.json, "dtype", s.where);
  if (!name) name = find_string(s.json, "torch_dtype", s.where);
  if (!name) return ModelConfig().stored_type;
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    if (*name == name_of(type)) return type;
  }
  fail("{}: dtype \"{}\" is not supported; supported are float32, float16 and bfloat16.", s.where,
       *name);
}

double positive_number(const Source& s, std::string_view key, double value, double least) {
  if (!std::isfinite(value) || value < least) {
    fail("{}: {} is {}; it must be a number of at least {}.", s.where, key, value, least);
  }
  return value;
}

void read_llama3(const Source& scaling, RopeConfig& rope) {
  const auto number = [&](std::string_view key) {
    return positive_number(scaling, key, get_number(scaling.json, key, scaling.where), 1e-6);
  };
  rope.low_freq_factor = number("low_freq_factor");
  rope.high_freq_factor = number("high_freq_factor");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fail("{}: high_freq_factor ({}) must be larger than low_freq_factor ({}).", scaling.where,
         rope.high_freq_factor, rope.low_freq_factor);
  }
  rope.original_max_positions =
      scaling.size("original_max_position_embeddings", max_position_limit);
}

/// The rotation's settings: all in rope_parameters (newer), or rope_theta beside rope_scaling.
RopeConfig read_rope(const Source& s) {
  const Json none = Json::object();
  const Json* settings = nullptr;
  std::string_view key;
  for (std::string_view candidate : {"rope_parameters", "rope_scaling"}) {
    key = candidate;
    if (find_field(s.json, candidate, s.where)) {
      settings = &get_object(s.json, candidate, s.where);
      break;
    }
  }
  const std::string where = fmt::format("{}: {}", s.where, settings ? key : "rope_theta");
  const Source scaling{settings ? *settings : none, where};
  for (const auto& [name, value] : scaling.json.items()) {
    if (value.is_object()) {
      fail("{}: separate settings for \"{}\" are not supported; one rotation for all layers is.",
           where, name);
    }
  }
  RopeConfig rope;
  auto theta = find_number(scaling.json, "rope_theta", where);
  if (!theta) theta = find_number(s.json, "rope_theta", s.where);
  rope.theta = positive_number(s, "rope_theta", theta.value_or(rope.theta), 1.0);
  for (const Source& place : {s, scaling}) {
    const auto part = find_number(place.json, "partial_rotary_factor", place.where);
    if (part && *part != 1.0) {
      fail("{}: partial_rotary_factor {} is not supported; only 1 (rotate whole heads) is.",
           place.where, *part);
    }
  }

  auto type = find_string(scaling.json, "rope_type", where);
  if (!type) type = find_string(scaling.json, "type", where);
  if (!type && find_field(scaling.json, "factor", where)) {
    fail("{}: it has a factor but no rope_type; add one of linear, llama3.", where);
  }
  if (!type || *type == "default") return rope;
  if (*type == "linear") {
    rope.type = RopeConfig::Type::linear;
  } else if (*type == "llama3") {
    rope.type = RopeConfig::Type::llama3;
  } else {
    fail("{}: rotary type \"{}\" is not supported; supported are default, linear, llama3.", where,
         *type);
  }
  rope.factor = positive_number(scaling, "factor", get_number(scaling.json, "factor", where), 1.0);
  if (rope.type == RopeConfig::Type::llama3) read_llama3(scaling, rope);
  return rope;
}

/// The window of each layer from sliding_window, use_sliding_window and layer_types.
std::vector<std::int64_t> read_windows(const Source& s, const Architecture& architecture,
                                       std::int64_t layers) {
  std::int64_t window = architecture.sliding_window;
  if (s.json.contains("sliding_window")) {  // here null says none, not "the default"
    const auto given = find_int(s.json, "sliding_window", s.where);
    window = given ? s.in_range(*given, "sliding_window", max_position_limit) : 0;
  }
  if (!find_bool(s.json, "use_sliding_window", s.where).value_or(true)) window = 0;
  std::vector<std::int64_t> windows(static_cast<std::size_t>(layers), window);
  if (!find_field(s.json, "layer_types", s.where)) return windows;

  const Json& types = get_array(s.json, "layer_types", s.where);
  if (types.size() != windows.size()) {
    fail("{}: layer_types has {} entries, but num_hidden_layers is {}.", s.where, types.size(),
         layers);
  }
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const std::string type = to_text(types[i], "layer_types", s.where);
    if (type == "full_attention") {
      windows[i] = 0;
    } else if (type != "sliding_attention") {
      fail("{}: layer_types[{}] is \"{}\"; supported are full_attention and sliding_attention.",
           s.where, i, type);
    } else if (window == 0) {
      fail("{}: layer_types[{}] is \"sliding_attention\", but no sliding_window is given.", s.where,
           i);
    }
  }
  return windows;
}

std::int32_t read_token_id(const Json& value, std::string_view key, std::int64_t vocab_size,
                           std::string_view where) {
  const std::int64_t id = to_int(value, key, where);
  if (id < 0 || id >= vocab_size) {
    fail("{}: {} {} is outside the vocabulary of {} tokens.", where, key, id, vocab_size);
  }
  return static_cast<std::int32_t>(id);
}

/// Adds the ids of eos_token_id (a number or a list of them) that are not there yet.
void add_end_tokens(const Source& s, ModelConfig& config) {
  const Json* field = find_field(s.json, "eos_token_id", s.where);
  if (!field) return;
  const Json list = field->is_array() ? *field : Json::array({*field});
  for (const Json& value : list) {
    const std::int32_t id = read_token_id(value, "eos_token_id", config.vocab_size, s.where);
    if (std::find(config.eos_ids.begin(), config.eos_ids.end(), id) == config.eos_ids.end()) {
      config.eos_ids.push_back(id);
    }
  }
}

void refuse_unsupported(const Source& s) {
  if (const Json* quantization = find_field(s.json, "quantization_config", s.where)) {
    const auto method = quantization->is_object()
                            ? find_string(*quantization, "quant_method", s.where)
                            : std::nullopt;
    fail(
        "{}: quantized checkpoints ({}) are not supported; use one in float32, float16 or "
        "bfloat16.",
        s.where, method.value_or("quantization_config"));
  }
  const std::string activation = find_string(s.json, "hidden_act", s.where).value_or("silu");
  if (activation != "silu") {
    fail("{}: hidden_act \"{}\" is not supported; supported is silu.", s.where, activation);
  }
  if (find_bool(s.json, "mlp_bias", s.where).value_or(false)) {
    fail("{}: mlp_bias true is not supported; supported is false.", s.where);
  }
}

void read_heads(const Source& s, const Architecture& architecture, ModelConfig& config) {
  config.query_heads = s.size("num_attention_heads", max_heads);
  config.kv_heads = s.size_or("num_key_value_heads", max_heads,
                              architecture.kv_heads ? architecture.kv_heads : config.query_heads);
  if (config.query_heads % config.kv_heads != 0) {
    fail("{}: num_attention_heads ({}) must be a multiple of num_key_value_heads ({}).", s.where,
         config.query_heads, config.kv_heads);
  }
  if (!find_field(s.json, "head_dim", s.where) && config.hidden_size % config.query_heads != 0) {
    fail(
        "{}: hidden_size ({}) is not a multiple of num_attention_heads ({}) and head_dim is not "
        "given.",
        s.where, config.hidden_size, config.query_heads);
  }
  config.head_dim = s.size_or("head_dim", max_head_dim, config.hidden_size / config.query_heads);
  if (config.head_dim % 2 != 0) {
    fail("{}: head_dim is {}; it must be even, since rotary embedding turns pairs.", s.where,
         config.head_dim);
  }
}

}  // namespace

std::int64_t ModelConfig::linear_parameters() const {
  const std::int64_t attention = (qkv_rows() + query_heads * head_dim) * hidden_size;
  const std::int64_t mlp = 3 * intermediate_size * hidden_size;
  return layers * (attention + mlp) + vocab_size * hidden_size;
}

ModelConfig parse_config(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  const Source s{json, where};
  const Architecture& architecture = read_architecture(s);
  refuse_unsupported(s);

  ModelConfig config;
  config.architecture = architecture.name;
  config.vocab_size = s.size("vocab_size", max_vocab);
  config.hidden_size = s.size("hidden_size", max_hidden);
  config.intermediate_size = s.size("intermediate_size", max_intermediate);
  config.layers = s.size("num_hidden_layers", max_layers);
  read_heads(s, architecture, config);
  config.norm_epsilon = positive_number(
      s, "rms_norm_eps", find_number(json, "rms_norm_eps", where).value_or(1e-6), 0.0);
  config.rope = read_rope(s);
  config.max_positions =
      s.size_or("max_position_embeddings", max_position_limit, architecture.max_positions);
  config.tied_embeddings = find_bool(json, "tie_word_embeddings", where).value_or(false);
  config.attention_bias = find_bool(json, "attention_bias", where).value_or(false);
  config.sliding_window = read_windows(s, architecture, config.layers);
  config.stored_type = read_stored_type(s);
  if (const Json* bos = find_field(json, "bos_token_id", where)) {
    config.bos_id = read_token_id(*bos, "bos_token_id", config.vocab_size, where);
  }
  add_end_tokens(s, config);
  return config;
}

ModelConfig load_config(const fs::path& directory) {
  if (!fs::is_directory(directory)) {
    fail("{}: no such directory; a checkpoint is a directory with config.json and *.safetensors.",
         directory.string());
  }
  const fs::path path = directory / "config.json";
  if (!fs::exists(path)) {
    fail("{}: this directory has no config.json; give a Hugging Face checkpoint directory.",
         directory.string());
  }
  ModelConfig config = parse_config(read_text_file(path), path.string());
  const fs::path generation = directory / "generation_config.json";
  if (fs::exists(generation)) {
    const Json json = parse_json_file(generation);
    const std::string where = generation.string();
    add_end_tokens({json, where}, config);
  }
  return config;
}

std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    double frequency = std::pow(rope.theta, -exponent);
    if (rope.type == RopeConfig::Type::linear) {
      frequency /= rope.factor;
    } else if (rope.type == RopeConfig::Type::llama3) {
      // Pairs that turn often within the original context keep their speed, those that turn
      // seldom are slowed down by the factor, and between the two it is mixed.
      const double turns =
          static_cast<double>(rope.original_max_positions) * frequency / (2.0 * std::numbers::pi);
      const double keep = std::clamp(
          (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0,
          1.0);
      frequency *= keep + (1.0 - keep) / rope.factor;
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

}  // namespace fastkv
