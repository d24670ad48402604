#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/weights.h"
#include "ops/convert.h"
#include "support/expect_error.h"

namespace fastkv {
namespace {

ModelConfig config() {
  return parse_config(R"({
    "architectures": ["LlamaForCausalLM"], "vocab_size": 1001, "hidden_size": 254,
    "intermediate_size": 333, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 62})",
                      "config.json");
}

std::vector<View> matrices(const Weights& w) {
  std::vector<View> all = {w.embedding, w.head.part[0]};
  for (const LayerWeights& layer : w.layers) {
    for (const Matrix& m : {layer.qkv, layer.output, layer.gate_up, layer.down}) {
      for (int i = 0; i < m.parts; ++i) all.push_back(m.part[static_cast<std::size_t>(i)]);
    }
  }
  return all;
}

bool same(const View& a, const View& b) {
  return a.shape == b.shape && a.type == b.type &&
         std::memcmp(a.data, b.data, static_cast<std::size_t>(a.shape.count()) * size_of(a.type)) ==
             0;
}

/// Mean, variance, fourth moment over variance squared, and the largest size.
struct Moments {
  double mean = 0, variance = 0, kurtosis = 0, largest = 0;
};
Moments moments(const View& view) {
  const auto n = static_cast<double>(view.shape.count());
  Moments m;
  double fourth = 0;
  for (std::int64_t i = 0; i < view.shape.count(); ++i) {
    const double x = load_float(view.data, view.type, i);
    m.mean += x / n;
    m.variance += x * x / n;
    fourth += x * x * x * x / n;
    m.largest = std::max(m.largest, std::abs(x));
  }
  m.kurtosis = fourth / (m.variance * m.variance);
  return m;
}

TEST(RandomWeights, HaveTheMomentsOfANormalDistribution) {
  for (DType type : {DType::f32, DType::bf16}) {
    const Weights w = random_weights(config(), type, 1);
    for (const View& view : matrices(w)) {
      ASSERT_EQ(view.type, type);
      const Moments m = moments(view);
      const auto n = static_cast<double>(view.shape.count());
      const double deviation = std::sqrt(m.variance);
      EXPECT_LT(std::abs(m.mean), 4.0 * deviation / std::sqrt(n));
      EXPECT_NEAR(m.kurtosis, 3.0, 4.0 * std::sqrt(24.0 / n) + 0.02);
      EXPECT_LT(m.largest, 4.0 * deviation);
    }
  }
}

TEST(RandomWeights, AreScaledByTheirInputs) {
  const Weights w = random_weights(config(), DType::f32, 1);
  const auto deviation = [](const View& v) { return std::sqrt(moments(v).variance); };
  const LayerWeights& layer = w.layers[0];
  const double hidden = 1 / std::sqrt(254.0);
  EXPECT_NEAR(deviation(w.embedding) / hidden, 1.0, 0.01);
  EXPECT_NEAR(deviation(layer.qkv.part[0]) / hidden, 1.0, 0.01);
  EXPECT_NEAR(deviation(layer.gate_up.part[1]) / hidden, 1.0, 0.01);
  // What adds to the residual stream is smaller by sqrt(2 * layers) = 2.
  EXPECT_NEAR(deviation(layer.output.part[0]) * 2 * std::sqrt(248.0), 1.0, 0.01);
  EXPECT_NEAR(deviation(layer.down.part[0]) * 2 * std::sqrt(333.0), 1.0, 0.01);
  EXPECT_EQ(layer.attention_norm.as<float>()[0], 1.0f);
  EXPECT_EQ(w.final_norm.as<float>()[253], 1.0f);
}

TEST(RandomWeights, DependOnTheSeedOnly) {
  const int threads = omp_get_max_threads();
  const Weights once = random_weights(config(), DType::bf16, 7);
  omp_set_num_threads(1);
  const Weights one_thread = random_weights(config(), DType::bf16, 7);
  omp_set_num_threads(5);
  const Weights five_threads = random_weights(config(), DType::bf16, 7);
  omp_set_num_threads(threads);
  const Weights other_seed = random_weights(config(), DType::bf16, 8);
  const auto a = matrices(once);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(same(a[i], matrices(one_thread)[i])) << i;
    EXPECT_TRUE(same(a[i], matrices(five_threads)[i])) << i;
    EXPECT_FALSE(same(a[i], matrices(other_seed)[i])) << i;
  }
}

TEST(RandomWeights, DifferFromTensorToTensorAndRowToRow) {
  const Weights w = random_weights(config(), DType::bf16, 7);
  EXPECT_FALSE(same(w.layers[0].qkv.part[0], w.layers[1].qkv.part[0]));
  EXPECT_FALSE(same(w.layers[0].qkv.part[1], w.layers[0].qkv.part[2]));
  EXPECT_FALSE(same(w.embedding.slice(0, 1), w.embedding.slice(1, 1)));
}

TEST(RandomWeights, AreTheSameNumbersInBothTypes) {
  const Weights exact = random_weights(config(), DType::f32, 7);
  const Weights rounded = random_weights(config(), DType::bf16, 7);
  const View from = exact.layers[1].down.part[0];
  const View to = rounded.layers[1].down.part[0];
  for (std::int64_t i = 0; i < from.shape.count(); ++i) {
    ASSERT_EQ(to.as<std::uint16_t>()[i], bf16_from_float(from.as<float>()[i])) << i;
  }
}

TEST(RandomWeights, HaveBiasWhereTheConfigSaysSo) {
  ModelConfig biased = config();
  biased.attention_bias = true;
  EXPECT_EQ(random_weights(biased, DType::f32, 1).layers[0].qkv_bias.shape, (Shape{496}));
  EXPECT_FALSE(random_weights(config(), DType::f32, 1).layers[0].qkv_bias);
}

TEST(RandomWeights, ReportProgress) {
  std::vector<double> seen;
  random_weights(config(), DType::bf16, 7, [&](double share) { seen.push_back(share); });
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 1.0);
}

TEST(RandomWeights, RefuseWhatDoesNotFit) {
  ModelConfig huge = config();
  huge.layers = 4096;
  huge.intermediate_size = std::int64_t{1} << 22;
  huge.hidden_size = std::int64_t{1} << 20;
  test::expect_error([&] { random_weights(huge, DType::bf16, 1); }, {"GiB", "memory"});
  test::expect_error([] { random_weights(config(), DType::f16, 1); }, {"float16"});
}

}  // namespace
}  // namespace fastkv
