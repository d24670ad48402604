#include "model/weights.h"

#include <gtest/gtest.h>

#include <limits>

#include "model/safetensors.h"
#include "ops/convert.h"
#include "support/expect_error.h"
#include "support/safetensors_writer.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using test::bytes_of;
using test::expect_error;
using test::safetensors_file;
using test::TensorData;

using Tensors = std::map<std::string, TensorData>;

ModelConfig small_config() {
  return parse_config(R"({
    "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 8,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 6})",
                      "config.json");
}

/// A tensor of float32 whose numbers can be told from every other tensor's.
TensorData numbers(std::vector<std::int64_t> shape, float first) {
  std::int64_t count = 1;
  for (std::int64_t d : shape) count *= d;
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i) / 64.0f);
  return {"F32", std::move(shape), bytes_of(values)};
}

/// Every tensor of small_config(), each of which begins with another number.
Tensors small_tensors() {
  Tensors t;
  t["model.embed_tokens.weight"] = numbers({10, 8}, 1);
  t["model.norm.weight"] = numbers({8}, 2);
  t["lm_head.weight"] = numbers({10, 8}, 3);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    const auto base = static_cast<float>(10 + 10 * layer);
    t[p + "input_layernorm.weight"] = numbers({8}, base);
    t[p + "self_attn.q_proj.weight"] = numbers({12, 8}, base + 1);
    t[p + "self_attn.k_proj.weight"] = numbers({6, 8}, base + 2);
    t[p + "self_attn.v_proj.weight"] = numbers({6, 8}, base + 3);
    t[p + "self_attn.o_proj.weight"] = numbers({8, 12}, base + 4);
    t[p + "post_attention_layernorm.weight"] = numbers({8}, base + 5);
    t[p + "mlp.gate_proj.weight"] = numbers({12, 8}, base + 6);
    t[p + "mlp.up_proj.weight"] = numbers({12, 8}, base + 7);
    t[p + "mlp.down_proj.weight"] = numbers({8, 12}, base + 8);
  }
  return t;
}

/// Writes the tensors as a one-file checkpoint and loads it.
Weights load(const Tensors& tensors, const ModelConfig& config = small_config(),
             DType type = DType::f32) {
  const test::TemporaryDir dir;  // the mapping stays when the file goes
  dir.write("model.safetensors", safetensors_file(tensors));
  return load_weights(dir.path(), config, type);
}

void expect_refused(const Tensors& tensors, std::initializer_list<std::string_view> parts,
                    const ModelConfig& config = small_config()) {
  expect_error([&] { load(tensors, config); }, parts);
}

float first_of(const View& view) { return load_float(view.data, view.type, 0); }

TEST(Weights, PutsEveryTensorInItsPlace) {
  const Weights w = load(small_tensors());
  EXPECT_EQ(first_of(w.embedding), 1);
  EXPECT_EQ(w.embedding.shape, (Shape{10, 8}));
  EXPECT_EQ(first_of(w.final_norm), 2);
  ASSERT_EQ(w.head.parts, 1);
  EXPECT_EQ(first_of(w.head.part[0]), 3);
  ASSERT_EQ(w.layers.size(), 2u);
  const LayerWeights& layer = w.layers[1];
  EXPECT_EQ(first_of(layer.attention_norm), 20);
  ASSERT_EQ(layer.qkv.parts, 3);
  EXPECT_EQ(first_of(layer.qkv.part[0]), 21);
  EXPECT_EQ(first_of(layer.qkv.part[1]), 22);
  EXPECT_EQ(first_of(layer.qkv.part[2]), 23);
  EXPECT_EQ(layer.qkv.rows(), 24);
  EXPECT_EQ(layer.qkv.columns(), 8);
  EXPECT_FALSE(layer.qkv_bias);
  EXPECT_EQ(first_of(layer.output.part[0]), 24);
  EXPECT_EQ(layer.output.columns(), 12);
  EXPECT_EQ(first_of(layer.mlp_norm), 25);
  ASSERT_EQ(layer.gate_up.parts, 2);
  EXPECT_EQ(first_of(layer.gate_up.part[0]), 26);
  EXPECT_EQ(first_of(layer.gate_up.part[1]), 27);
  EXPECT_EQ(first_of(layer.down.part[0]), 28);
  EXPECT_EQ(layer.down.columns(), 12);
  EXPECT_EQ(w.rope_frequencies.shape, (Shape{3}));
  EXPECT_EQ(layer.mlp_norm.as<float>()[7], 25 + 7.0f / 64.0f);

  std::size_t expected = 0;
  for (const auto& [name, tensor] : small_tensors()) expected += tensor.bytes.size();
  EXPECT_EQ(w.bytes, expected);
}

TEST(Weights, TiedEmbeddingsAreTheHead) {
  ModelConfig config = small_config();
  config.tied_embeddings = true;
  Tensors tensors = small_tensors();
  EXPECT_EQ(load(tensors, config).head.part[0].data != nullptr, true);
  tensors.erase("lm_head.weight");
  const Weights w = load(tensors, config);
  EXPECT_EQ(w.head.part[0].data, w.embedding.data);
  expect_refused(tensors, {"lm_head.weight", "missing", "tie_word_embeddings"});
}

TEST(Weights, RefusesEachMissingTensorByName) {
  for (const auto& [name, tensor] : small_tensors()) {
    Tensors tensors = small_tensors();
    tensors.erase(name);
    expect_refused(tensors, {"tensor \"" + name + "\" is missing"});
  }
}

TEST(Weights, RefusesEachMisShapedTensorByName) {
  for (const auto& [name, tensor] : small_tensors()) {
    Tensors tensors = small_tensors();
    std::vector<std::int64_t> shape = tensor.shape;
    shape[0] += 1;
    tensors[name] = numbers(shape, 0);
    expect_refused(tensors, {"tensor \"" + name + "\" has shape [" + std::to_string(shape[0]),
                             "expected was [" + std::to_string(tensor.shape[0])});
  }
  Tensors tensors = small_tensors();
  tensors["model.layers.0.self_attn.o_proj.weight"].shape = {12, 8};
  expect_refused(tensors, {"o_proj", "[12, 8]", "[8, 12]"});
  tensors["model.layers.0.self_attn.o_proj.weight"].shape = {96};
  expect_refused(tensors, {"o_proj", "[96]", "[8, 12]"});
}

TEST(Weights, HintsAtAnotherPrefix) {
  Tensors tensors;
  for (auto& [name, tensor] : small_tensors()) tensors["language_model." + name] = tensor;
  expect_refused(tensors, {"\"model.embed_tokens.weight\" is missing",
                           "There is a \"language_model.model.embed_tokens.weight\""});
}

TEST(Weights, RefusesOtherTypes) {
  Tensors tensors = small_tensors();
  tensors["model.norm.weight"] = {"F64", {8}, std::string(64, '\0')};
  expect_refused(tensors, {"model.norm.weight", "F64", "F32, F16 or BF16"});
  tensors = small_tensors();
  tensors["model.layers.1.mlp.up_proj.weight"] = {"I8", {12, 8}, std::string(96, '\0')};
  expect_refused(tensors, {"up_proj", "I8", "quantized"});
  tensors["model.layers.1.mlp.up_proj.weight"] = {"Q9", {12, 8}, std::string(96, '\0')};
  expect_refused(tensors, {"up_proj", "Q9"});
}

TEST(Weights, RefusesTensorsThatWouldBeIgnoredWrongly) {
  for (const std::string name :
       {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_norm.weight",
        "model.layers.1.mlp.down_proj.bias", "lm_head.bias"}) {
    Tensors tensors = small_tensors();
    tensors[name] = numbers({12}, 0);
    expect_refused(tensors, {name, "would be ignored", "attention_bias false"});
  }
  Tensors tensors = small_tensors();
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = numbers({3}, 0);
  tensors["model.layers.7.self_attn.q_proj.bias"] = numbers({3}, 0);  // above the last layer
  EXPECT_NO_THROW(load(tensors));
}

TEST(Weights, ReadsAttentionBias) {
  ModelConfig config = small_config();
  config.attention_bias = true;
  Tensors tensors = small_tensors();
  expect_refused(tensors, {"q_proj.bias", "missing", "[12]"}, config);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".self_attn.";
    tensors[p + "q_proj.bias"] = numbers({12}, 100);
    tensors[p + "k_proj.bias"] = numbers({6}, 200);
    tensors[p + "v_proj.bias"] = numbers({6}, 300);
  }
  const Weights w = load(tensors, config);
  const View bias = w.layers[1].qkv_bias;
  ASSERT_EQ(bias.shape, (Shape{24}));
  EXPECT_EQ(bias.as<float>()[0], 100);
  EXPECT_EQ(bias.as<float>()[11], 100 + 11.0f / 64.0f);
  EXPECT_EQ(bias.as<float>()[12], 200);
  EXPECT_EQ(bias.as<float>()[18], 300);
  tensors["model.layers.1.self_attn.o_proj.bias"] = numbers({8}, 400);
  expect_refused(tensors, {"o_proj.bias", "would be ignored"}, config);
}

TEST(Weights, KeepsMatricesWhereTheFileHasThem) {
  const std::filesystem::path directory = FASTKV_SOURCE_DIR "/models/needle-v2-14m";
  const ModelConfig config = load_config(directory);
  const Weights w = load_weights(directory, config, DType::bf16);
  // The memory that holds the weights: the mapped files (and own memory for the vectors).
  const SafetensorsDirectory files(directory);
  const auto* entry = files.find("model.layers.7.self_attn.k_proj.weight");
  ASSERT_NE(entry, nullptr);
  const View k = w.layers[7].qkv.part[1];
  EXPECT_EQ(k.type, DType::bf16);
  EXPECT_EQ(std::memcmp(k.data, entry->data(), entry->tensor.bytes), 0);
  const auto page_offset = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 4096; };
  EXPECT_EQ(page_offset(k.data), entry->tensor.offset % 4096) << "inside a mapping of the file";
  EXPECT_EQ(w.head.part[0].data, w.embedding.data);
  EXPECT_EQ(w.layers[7].attention_norm.type, DType::f32);
  EXPECT_EQ(w.layers.size(), 14u);
}

TEST(Weights, LoadsTheFixtures) {
  const std::filesystem::path fixtures = FASTKV_SOURCE_DIR "/tests/fixtures";
  const ModelConfig llama = load_config(fixtures / "tiny-llama");
  EXPECT_EQ(llama.rope.type, RopeConfig::Type::llama3);
  EXPECT_EQ(llama.head_dim, 64);
  EXPECT_EQ(llama.eos_ids, (std::vector<std::int32_t>{2}));
  const Weights a = load_weights(fixtures / "tiny-llama", llama, DType::f32);
  EXPECT_EQ(a.embedding.type, DType::bf16) << "with float32 everything stays as it is stored";
  EXPECT_NE(a.head.part[0].data, a.embedding.data);

  const ModelConfig ministral = load_config(fixtures / "tiny-ministral");
  EXPECT_EQ(ministral.sliding_window, (std::vector<std::int64_t>(5, 0)));
  EXPECT_EQ(ministral.stored_type, DType::f16);
  const Weights stored = load_weights(fixtures / "tiny-ministral", ministral, DType::f32);
  EXPECT_EQ(stored.embedding.type, DType::f16);
  const Weights converted = load_weights(fixtures / "tiny-ministral", ministral, DType::bf16);
  for (const auto& [from, to] :
       {std::pair(stored.embedding, converted.embedding),
        std::pair(stored.layers[4].down.part[0], converted.layers[4].down.part[0])}) {
    ASSERT_EQ(to.type, DType::bf16);
    for (std::int64_t i = 0; i < from.shape.count(); ++i) {
      ASSERT_EQ(to.as<std::uint16_t>()[i], bf16_from_float(load_float(from.data, from.type, i)));
    }
  }
}

/// All 65536 numbers of a 16-bit type (or float32 numbers of special bits) in one embedding.
Weights load_embedding(const TensorData& table, DType type) {
  ModelConfig config = small_config();
  config.vocab_size = table.shape[0];
  Tensors tensors = small_tensors();
  tensors["model.embed_tokens.weight"] = table;
  tensors["lm_head.weight"] = table;
  return load(tensors, config, type);
}

/// float16 as its definition says: sign, 5 bits of exponent, 10 of mantissa.
double value_of_f16(int bits) {
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  const int exponent = bits >> 10 & 31;
  const double mantissa = bits & 1023;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  if (exponent == 31) {
    return mantissa == 0.0 ? sign * std::numeric_limits<double>::infinity()
                           : std::numeric_limits<double>::quiet_NaN();
  }
  return sign * std::ldexp(1024.0 + mantissa, exponent - 25);
}

/// The bfloat16 nearest to `x`, ties to even: all candidates are tried.
std::uint16_t nearest_bf16(double x) {
  const auto toward_zero =
      static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16);
  std::uint16_t best = toward_zero;
  double best_distance = std::abs(double{float_from_bf16(best)} - x);
  const auto away = static_cast<std::uint16_t>(toward_zero + 1);
  const double distance = std::abs(double{float_from_bf16(away)} - x);
  if (distance < best_distance || (distance == best_distance && away % 2 == 0)) best = away;
  return best;
}

TEST(Weights, ConvertsEveryFloat16) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const Weights w = load_embedding({"F16", {8192, 8}, bytes_of(all)}, DType::bf16);
  const auto* found = w.embedding.as<std::uint16_t>();
  for (int bits = 0; bits < 65536; ++bits) {
    const double value = value_of_f16(bits);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(float_from_bf16(found[bits]))) << bits;
    } else if (std::isinf(value)) {
      EXPECT_EQ(float_from_bf16(found[bits]), static_cast<float>(value)) << bits;
    } else {
      ASSERT_EQ(found[bits], nearest_bf16(value)) << "float16 bits " << bits;
    }
  }
}

TEST(Weights, ConvertsFloat32ToTheNearest) {
  const auto bits = [](std::uint32_t b) { return std::bit_cast<float>(b); };
  const std::vector<float> values = {
      0.0f,
      -0.0f,
      bits(0x3F808000),  // half-way, the lower is even
      bits(0x3F818000),  // half-way, the upper is even
      bits(0x3F808001),  // just above half-way
      bits(0x7F7FFFFF),  // the largest float: becomes infinity
      bits(0x7F800001),  // a NaN that has only low bits
      bits(0x00000001),  // the smallest subnormal
  };
  const Weights w = load_embedding({"F32", {1, 8}, bytes_of(values)}, DType::bf16);
  const auto* found = w.embedding.as<std::uint16_t>();
  EXPECT_EQ(found[0], 0x0000);
  EXPECT_EQ(found[1], 0x8000);
  EXPECT_EQ(found[2], 0x3F80);
  EXPECT_EQ(found[3], 0x3F82);
  EXPECT_EQ(found[4], 0x3F81);
  EXPECT_EQ(found[5], 0x7F80);
  EXPECT_TRUE(std::isnan(float_from_bf16(found[6])));
  EXPECT_EQ(found[7], 0x0000);
}

TEST(Weights, CopiesUnalignedTensors) {
  const test::TemporaryDir dir;
  std::string file = safetensors_file(small_tensors());
  // One more space in the header moves all data to odd addresses.
  const std::uint64_t length = static_cast<unsigned char>(file[0]) |
                               static_cast<std::uint64_t>(static_cast<unsigned char>(file[1])) << 8;
  file = test::header_length(length + 1) + file.substr(8, length) + " " + file.substr(8 + length);
  dir.write("model.safetensors", file);
  const Weights w = load_weights(dir.path(), small_config(), DType::f32);
  const View down = w.layers[1].down.part[0];
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(down.data) % 4, 0u);
  EXPECT_EQ(down.as<float>()[0], 28);
  EXPECT_EQ(down.as<float>()[95], 28 + 95.0f / 64.0f);
  EXPECT_EQ(w.layers[0].mlp_norm.as<float>()[0], 15);
}

TEST(Weights, ReportsProgress) {
  const test::TemporaryDir dir;
  dir.write("model.safetensors", safetensors_file(small_tensors()));
  std::vector<double> seen;
  load_weights(dir.path(), small_config(), DType::bf16,
               [&](double share) { seen.push_back(share); });
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 1.0);
}

TEST(Weights, RefusesATruncatedFile) {
  const test::TemporaryDir dir;
  const std::string whole = safetensors_file(small_tensors());
  dir.write("model.safetensors", whole.substr(0, whole.size() - 1));
  expect_error([&] { load_weights(dir.path(), small_config(), DType::f32); },
               {"model.safetensors", "truncated"});
}

}  // namespace
}  // namespace fastkv
