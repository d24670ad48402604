#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "support/expect_error.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::expect_error;

json llama_json() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 512},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5}};
}

json mistral_json() {
  json j = llama_json();
  j["architectures"] = {"MistralForCausalLM"};
  return j;
}

/// llama_json() with fields replaced or added.
json with(const json& changes) {
  json j = llama_json();
  j.update(changes);
  return j;
}

ModelConfig parse(const json& j) { return parse_config(j.dump(), "config.json"); }

void expect_refused(const json& j, std::initializer_list<std::string_view> parts) {
  expect_error([&] { parse(j); }, parts);
}

TEST(Config, ReadsTheSizes) {
  const ModelConfig c = parse(llama_json());
  EXPECT_EQ(c.architecture, "LlamaForCausalLM");
  EXPECT_EQ(c.vocab_size, 512);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.intermediate_size, 128);
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.query_heads, 8);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.head_dim, 8) << "hidden_size / num_attention_heads where head_dim is not given";
  EXPECT_EQ(c.max_positions, 4096);
  EXPECT_DOUBLE_EQ(c.norm_epsilon, 1e-5);
  EXPECT_EQ(c.rope.type, RopeConfig::Type::standard);
  EXPECT_DOUBLE_EQ(c.rope.theta, 10000.0);
  EXPECT_FALSE(c.tied_embeddings);
  EXPECT_FALSE(c.attention_bias);
  EXPECT_EQ(c.group(), 4);
  EXPECT_EQ(c.qkv_rows(), 12 * 8);
  EXPECT_EQ(c.linear_parameters(), 3 * (96 * 64 + 64 * 64 + 3 * 64 * 128) + 512 * 64);
}

TEST(Config, TakesAnExplicitHeadSize) {
  EXPECT_EQ(parse(with({{"head_dim", 128}})).head_dim, 128);
  EXPECT_EQ(parse(with({{"head_dim", nullptr}})).head_dim, 8);
  expect_refused(with({{"head_dim", 7}}), {"head_dim", "7", "even"});
  expect_refused(with({{"num_attention_heads", 6}, {"num_key_value_heads", 3}}),
                 {"hidden_size (64)", "num_attention_heads (6)", "head_dim is not given"});
}

TEST(Config, KnowsWhatMissingFieldsMean) {
  json llama = llama_json();
  llama.erase("num_key_value_heads");
  llama.erase("max_position_embeddings");
  EXPECT_EQ(parse(llama).kv_heads, 8);
  EXPECT_EQ(parse(llama).max_positions, 2048);
  json mistral = mistral_json();
  mistral.erase("num_key_value_heads");
  EXPECT_EQ(parse(mistral).kv_heads, 8);
}

TEST(Config, ReadsTheOlderRopeForm) {
  EXPECT_DOUBLE_EQ(parse(with({{"rope_theta", 5e5}, {"rope_scaling", nullptr}})).rope.theta, 5e5);
  const auto linear = parse(with({{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}})).rope;
  EXPECT_EQ(linear.type, RopeConfig::Type::linear);
  EXPECT_DOUBLE_EQ(linear.factor, 4.0);
  const auto llama3 = parse(with({{"rope_theta", 5e5},
                                  {"rope_scaling",
                                   {{"rope_type", "llama3"},
                                    {"factor", 8.0},
                                    {"low_freq_factor", 1.5},
                                    {"high_freq_factor", 4.5},
                                    {"original_max_position_embeddings", 256}}}}))
                          .rope;
  EXPECT_EQ(llama3.type, RopeConfig::Type::llama3);
  EXPECT_DOUBLE_EQ(llama3.theta, 5e5);
  EXPECT_DOUBLE_EQ(llama3.factor, 8.0);
  EXPECT_DOUBLE_EQ(llama3.low_freq_factor, 1.5);
  EXPECT_DOUBLE_EQ(llama3.high_freq_factor, 4.5);
  EXPECT_EQ(llama3.original_max_positions, 256);
}

TEST(Config, ReadsTheNewerForm) {
  const ModelConfig c = parse(with({{"dtype", "float16"},
                                    {"rope_parameters",
                                     {{"rope_type", "llama3"},
                                      {"rope_theta", 123.0},
                                      {"factor", 2.0},
                                      {"low_freq_factor", 1.0},
                                      {"high_freq_factor", 4.0},
                                      {"original_max_position_embeddings", 512}}}}));
  EXPECT_EQ(c.stored_type, DType::f16);
  EXPECT_EQ(c.rope.type, RopeConfig::Type::llama3);
  EXPECT_DOUBLE_EQ(c.rope.theta, 123.0);
  EXPECT_EQ(c.rope.original_max_positions, 512);
  const json plain = {{"rope_type", "default"}, {"rope_theta", 77.0}};
  EXPECT_EQ(parse(with({{"rope_parameters", plain}})).rope.type, RopeConfig::Type::standard);
  EXPECT_DOUBLE_EQ(parse(with({{"rope_parameters", plain}})).rope.theta, 77.0);
}

TEST(Config, RefusesOtherRotationsByName) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    for (const char* type : {"yarn", "dynamic", "longrope"}) {
      expect_refused(with({{key, {{"rope_type", type}, {"factor", 2.0}}}}),
                     {"config.json", key, type, "default, linear, llama3"});
    }
  }
  expect_refused(with({{"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}}}),
                 {"full_attention", "not supported"});
  expect_refused(with({{"rope_scaling", {{"factor", 2.0}}}}), {"rope_scaling", "rope_type"});
  expect_refused(with({{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor", "0.5"});
}

TEST(Config, RefusesRotationsOutOfRange) {
  expect_refused(with({{"rope_theta", 0}}), {"rope_theta", "at least"});
  expect_refused(with({{"rope_theta", "big"}}), {"rope_theta", "number"});
  expect_refused(with({{"rope_scaling", {{"type", "linear"}, {"factor", 0.0}}}}), {"factor is 0"});
  expect_refused(with({{"rope_scaling", {{"type", "linear"}}}}), {"factor", "missing"});
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 4.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 256}};
  expect_refused(with({{"rope_scaling", llama3}}), {"high_freq_factor (4)", "larger"});
}

TEST(Config, ReadsStoredTypes) {
  EXPECT_EQ(parse(with({{"torch_dtype", "float32"}})).stored_type, DType::f32);
  EXPECT_EQ(parse(with({{"torch_dtype", "bfloat16"}})).stored_type, DType::bf16);
  EXPECT_EQ(parse(with({{"dtype", "float16"}, {"torch_dtype", "float32"}})).stored_type, DType::f16)
      << "the newer field wins";
  expect_refused(with({{"torch_dtype", "float64"}}), {"float64", "float32, float16 and bfloat16"});
}

TEST(Config, ReadsSlidingWindows) {
  using Windows = std::vector<std::int64_t>;
  json j = mistral_json();
  EXPECT_EQ(parse(j).sliding_window, (Windows{4096, 4096, 4096})) << "the family's default";
  j["sliding_window"] = nullptr;
  EXPECT_EQ(parse(j).sliding_window, (Windows{0, 0, 0}));
  j["sliding_window"] = 100;
  EXPECT_EQ(parse(j).sliding_window, (Windows{100, 100, 100}));
  j["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  EXPECT_EQ(parse(j).sliding_window, (Windows{0, 100, 0}));
  j["layer_types"] = json::array({"full_attention", "full_attention", "full_attention"});
  j["use_sliding_window"] = false;
  EXPECT_EQ(parse(j).sliding_window, (Windows{0, 0, 0}));
  EXPECT_EQ(parse(llama_json()).sliding_window, (Windows{0, 0, 0}));
}

TEST(Config, RefusesWindowsThatContradict) {
  json j = mistral_json();
  j["sliding_window"] = 100;
  j["layer_types"] = {"full_attention", "sliding_attention"};
  expect_refused(j, {"layer_types", "2 entries", "num_hidden_layers is 3"});
  j["layer_types"] = {"full_attention", "sliding_attention", "chunked_attention"};
  expect_refused(j, {"layer_types[2]", "chunked_attention"});
  j["layer_types"][2] = "full_attention";
  j["sliding_window"] = nullptr;
  expect_refused(j, {"layer_types[1]", "no sliding_window"});
  j["sliding_window"] = 0;
  expect_refused(j, {"sliding_window is 0"});
}

TEST(Config, RefusesOtherArchitecturesByName) {
  expect_refused(with({{"architectures", {"GPTNeoXForCausalLM"}}}),
                 {"GPTNeoXForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"});
  json j = llama_json();
  j.erase("architectures");
  EXPECT_EQ(parse(j).architecture, "LlamaForCausalLM") << "from model_type";
  j["model_type"] = "mamba";
  expect_refused(j, {"mamba"});
  j.erase("model_type");
  expect_refused(j, {"model_type", "missing"});
}

TEST(Config, RefusesWhatItCannotCompute) {
  expect_refused(with({{"hidden_act", "gelu"}}), {"hidden_act", "gelu", "silu"});
  expect_refused(with({{"mlp_bias", true}}), {"mlp_bias"});
  expect_refused(with({{"quantization_config", {{"quant_method", "gptq"}}}}),
                 {"quantized", "gptq"});
}

TEST(Config, ChecksEverySize) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    expect_refused(with({{key, 0}}), {"config.json", key, "is 0"});
    expect_refused(with({{key, -1}}), {key, "-1"});
    expect_refused(with({{key, std::int64_t{1} << 40}}), {key, "1099511627776"});
    expect_refused(with({{key, "many"}}), {key, "integer"});
    expect_refused(with({{key, 1.5}}), {key, "integer"});
  }
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads"}) {
    json j = llama_json();
    j.erase(key);
    expect_refused(j, {key, "missing"});
  }
  expect_refused(with({{"num_key_value_heads", 3}}),
                 {"num_attention_heads (8)", "multiple", "num_key_value_heads (3)"});
  expect_refused(with({{"rms_norm_eps", -1.0}}), {"rms_norm_eps"});
}

TEST(Config, RefusesBrokenJson) {
  expect_error([] { parse_config("{\"vocab_size\": ", "config.json"); },
               {"config.json", "not valid JSON"});
  expect_error([] { parse_config("[]", "config.json"); }, {"config.json", "object"});
  expect_error([] { parse_config("", "config.json"); }, {"not valid JSON"});
}

TEST(Config, ReadsEndTokens) {
  using Ids = std::vector<std::int32_t>;
  EXPECT_EQ(parse(llama_json()).eos_ids, Ids{});
  EXPECT_EQ(parse(with({{"eos_token_id", 2}})).eos_ids, Ids{2});
  EXPECT_EQ(parse(with({{"eos_token_id", {5, 2, 5}}})).eos_ids, (Ids{5, 2}));
  EXPECT_EQ(parse(with({{"bos_token_id", 7}})).bos_id, 7);
  EXPECT_EQ(parse(with({{"bos_token_id", nullptr}})).bos_id, std::nullopt);
  expect_refused(with({{"eos_token_id", 512}}), {"eos_token_id 512", "512 tokens"});
  expect_refused(with({{"eos_token_id", {1, -1}}}), {"eos_token_id -1"});
  expect_refused(with({{"bos_token_id", {1, 2}}}), {"bos_token_id", "integer"});
}

TEST(Config, LoadsADirectory) {
  const test::TemporaryDir dir;
  expect_error([&] { load_config(dir.path()); }, {dir.path().string(), "no config.json"});
  expect_error([&] { load_config(dir.path() / "nothing"); }, {"nothing", "no such directory"});
  dir.write("config.json", with({{"eos_token_id", 2}}).dump());
  EXPECT_EQ(load_config(dir.path()).eos_ids, (std::vector<std::int32_t>{2}));
  dir.write("generation_config.json", R"({"eos_token_id": [3, 2, 9]})");
  EXPECT_EQ(load_config(dir.path()).eos_ids, (std::vector<std::int32_t>{2, 3, 9}))
      << "both files' end tokens, each once";
  dir.write("generation_config.json", R"({"eos_token_id": [3)");
  expect_error([&] { load_config(dir.path()); }, {"generation_config.json", "not valid JSON"});
}

TEST(RopeFrequencies, StandardAndLinear) {
  json j = with({{"rope_theta", 100.0}, {"head_dim", 4}});
  const auto standard = rope_frequencies(parse(j));
  ASSERT_EQ(standard.size(), 2u);
  EXPECT_FLOAT_EQ(standard[0], 1.0f);
  EXPECT_FLOAT_EQ(standard[1], 0.1f);
  j["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  const auto linear = rope_frequencies(parse(j));
  EXPECT_FLOAT_EQ(linear[0], 0.25f);
  EXPECT_FLOAT_EQ(linear[1], 0.025f);
}

/// The rule as it was published with the model, in wavelengths and with its three cases apart.
double llama3_frequency(double frequency, double factor, double low, double high, double context) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / factor;
  const double smooth = (context / wavelength - low) / (high - low);
  return (1.0 - smooth) * frequency / factor + smooth * frequency;
}

TEST(RopeFrequencies, Llama3) {
  ModelConfig config = preset_config("llama-3.1-8b");
  const auto frequencies = rope_frequencies(config);
  ASSERT_EQ(frequencies.size(), 64u);
  int kept = 0;
  int slowed = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    const double plain = std::pow(500000.0, -static_cast<double>(i) / 64.0);
    EXPECT_FLOAT_EQ(frequencies[i],
                    static_cast<float>(llama3_frequency(plain, 8.0, 1.0, 4.0, 8192.0)))
        << "pair " << i;
    kept += frequencies[i] == static_cast<float>(plain);
    slowed += frequencies[i] == static_cast<float>(plain / 8.0);
  }
  // All three parts of the rule were met.
  EXPECT_GT(kept, 0);
  EXPECT_GT(slowed, 0);
  EXPECT_LT(kept + slowed, 64);
}

TEST(Presets, HaveTheSizesOfTheirModels) {
  const auto names = preset_names();
  EXPECT_EQ(names, (std::vector<std::string_view>{"llama-3.1-8b", "llama-3.2-1b", "ministral-8b",
                                                  "nemo-12b"}));
  // The parameter counts that the models' cards give, norms and an untied embedding included.
  const auto parameters = [](std::string_view name) {
    const ModelConfig c = preset_config(name);
    const std::int64_t table = c.tied_embeddings ? 0 : c.vocab_size * c.hidden_size;
    return c.linear_parameters() + table + (2 * c.layers + 1) * c.hidden_size;
  };
  EXPECT_EQ(parameters("llama-3.1-8b"), 8030261248);
  EXPECT_EQ(parameters("llama-3.2-1b"), 1235814400);
  EXPECT_EQ(parameters("ministral-8b"), 8019808256);
  EXPECT_EQ(parameters("nemo-12b"), 12247782400);
  for (std::string_view name : names) {
    const ModelConfig c = preset_config(name);
    EXPECT_EQ(c.sliding_window.size(), static_cast<std::size_t>(c.layers)) << name;
    EXPECT_FALSE(c.eos_ids.empty()) << name;
  }
  EXPECT_EQ(preset_config("ministral-8b").sliding_window.front(), 32768);
  EXPECT_EQ(preset_config("nemo-12b").sliding_window.front(), 0);
  expect_error([] { preset_config("gpt-5"); }, {"gpt-5", "llama-3.1-8b", "nemo-12b"});
}

}  // namespace
}  // namespace fastkv
