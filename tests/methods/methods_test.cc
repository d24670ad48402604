// What each method answers, without any model: budgets, layers, presets, contradictions.

#include <gtest/gtest.h>

#include <set>

#include "methods/method.h"

namespace fastkv {
namespace {

constexpr ModelShape llama_8b{.layers = 32, .hidden_size = 4096, .query_heads = 32, .kv_heads = 8};
constexpr ModelShape ministral_8b{
    .layers = 36, .hidden_size = 4096, .query_heads = 32, .kv_heads = 8};
constexpr ModelShape nemo_12b{.layers = 40, .hidden_size = 5120, .query_heads = 32, .kv_heads = 8};
constexpr ModelShape small{.layers = 12, .hidden_size = 256, .query_heads = 8, .kv_heads = 2};

std::unique_ptr<Method> make(std::string_view name, const OptionValues& options,
                             const ModelShape& shape = small) {
  return find_method(name).make(options, shape);
}

std::string fallback(std::string_view method, std::string_view option, const ModelShape& shape) {
  for (const OptionInfo& info : find_method(method).options(shape)) {
    if (info.name == option) return info.fallback;
  }
  return "no such option";
}

LayerContext at(std::int64_t layer, std::int64_t tokens, std::int64_t prompt = 0) {
  return {.layer = layer, .tokens = tokens, .prompt_tokens = prompt ? prompt : tokens};
}

void expect_refused(std::string_view name, const OptionValues& options, const std::string& words) {
  try {
    make(name, options);
    ADD_FAILURE() << name << " accepted what it should refuse: " << words;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(Methods, TableListsTheSeven) {
  std::set<std::string_view> names;
  for (const MethodEntry& entry : method_table()) {
    names.insert(entry.name);
    EXPECT_NE(entry.paper.find("arXiv"), std::string_view::npos) << entry.name;
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"full", "fastkv", "snapkv", "h2o", "streamingllm",
                                               "gemfilter", "pyramidinfer"}));
  EXPECT_THROW(find_method("quest"), Error);
}

TEST(Methods, PublishedLayersAndTheSameDepthElsewhere) {
  EXPECT_EQ(fallback("fastkv", "tsp-layer", llama_8b), "15");
  EXPECT_EQ(fallback("fastkv", "tsp-layer", ministral_8b), "17");
  EXPECT_EQ(fallback("fastkv", "tsp-layer", nemo_12b), "19");
  EXPECT_EQ(fallback("fastkv", "tsp-layer", small), "5");
  EXPECT_EQ(fallback("gemfilter", "filter-layer", llama_8b), "13");
  EXPECT_EQ(fallback("pyramidinfer", "decay", llama_8b), "0.7");
  EXPECT_EQ(fallback("pyramidinfer", "decay", ministral_8b), "0.75");
  EXPECT_EQ(fallback("pyramidinfer", "decay", nemo_12b), "0.78");
}

TEST(Methods, BudgetsTruncateAndAreRaisedAboveTheWindow) {
  const auto snapkv = make("snapkv", {{"retain", "0.3"}});
  EXPECT_EQ(snapkv->keep(at(0, 101)).budget, 30);
  EXPECT_EQ(snapkv->keep(at(0, 20)).budget, 9) << "window + 1";
  EXPECT_EQ(make("snapkv", {{"mode", "constant"}, {"capacity", "64"}})->keep(at(3, 1000)).budget,
            64);
  EXPECT_EQ(make("streamingllm", {})->keep(at(0, 10)).budget, 5) << "sinks + 1";
  EXPECT_EQ(make("streamingllm", {})->keep(at(0, 1000)).recent, 96);
}

TEST(Methods, FastKVKeepsAboutAsManyAfterPropagationAsBefore) {
  const auto method = make("fastkv", {{"tsp-layer", "2"}, {"tsp-rate", "0.2"}, {"retain", "0.1"}});
  EXPECT_EQ(method->keep(at(2, 1000)).budget, 100);
  EXPECT_EQ(method->keep(at(3, 200, 1000)).budget, 100);
  EXPECT_FALSE(method->go_on(at(1, 1000)));
  ASSERT_TRUE(method->go_on(at(2, 1000)));
  EXPECT_EQ(method->go_on(at(2, 1000))->tokens, 200);
  EXPECT_EQ(method->go_on(at(2, 1000))->recent, 8);
  const auto constant =
      make("fastkv", {{"mode", "constant"}, {"tsp-layer", "2"}, {"tsp-len", "300"}});
  EXPECT_EQ(constant->go_on(at(2, 1000))->tokens, 300);
  EXPECT_FALSE(constant->go_on(at(2, 300))) << "nothing to drop";
}

TEST(Methods, GemFilterStartsOverWithTheSelectedTokens) {
  const auto method = make("gemfilter", {{"filter-layer", "3"}, {"retain", "0.25"}});
  EXPECT_EQ(method->keep(at(2, 100)).budget, 0);
  ASSERT_TRUE(method->go_on(at(3, 100)));
  EXPECT_TRUE(method->go_on(at(3, 100))->restart);
  EXPECT_EQ(method->go_on(at(3, 100))->tokens, 25);
  LayerContext second = at(3, 25);
  second.pass = 1;
  EXPECT_FALSE(method->go_on(second));
  EXPECT_GE(method->keep(second).budget, 25);
}

TEST(Methods, PyramidInferMeetsABudgetOnAverage) {
  const auto mean_share = [](const OptionValues& options, const ModelShape& shape, std::int64_t n) {
    const auto method = make("pyramidinfer", options, shape);
    std::int64_t tokens = n;
    std::int64_t total = 0;
    for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
      total += tokens;
      if (const auto go_on = method->go_on(at(layer, tokens, n))) tokens = go_on->tokens;
    }
    return static_cast<double>(total) / static_cast<double>(n * shape.layers);
  };
  // 0.55 is not published, so the decay is solved for; 0.6 is and comes from the paper.
  EXPECT_NEAR(mean_share({{"retain", "0.55"}}, llama_8b, 8192), 0.55, 0.01);
  EXPECT_NEAR(mean_share({{"mode", "constant"}, {"capacity", "4096"}}, llama_8b, 8192), 0.5, 0.01);
  EXPECT_DOUBLE_EQ(mean_share({{"retain", "0.6"}}, llama_8b, 8192), mean_share({}, llama_8b, 8192));
}

TEST(Methods, RefusesWhatMakesNoSense) {
  expect_refused("full", {{"retain", "0.1"}}, "no option --retain");
  expect_refused("snapkv", {{"retain", "0"}}, "above 0 and at most 1");
  expect_refused("snapkv", {{"retain", "1.5"}}, "above 0 and at most 1");
  expect_refused("snapkv", {{"retain", "many"}}, "needs a number");
  expect_refused("snapkv", {{"window", "2.5"}}, "whole number");
  expect_refused("snapkv", {{"mode", "sometimes"}}, "one of");
  expect_refused("snapkv", {{"kernel", "4"}}, "odd");
  expect_refused("snapkv", {{"capacity", "64"}},
                 "--capacity has no meaning with --mode proportional");
  expect_refused("snapkv", {{"mode", "constant"}, {"retain", "0.1"}}, "--retain has no meaning");
  expect_refused("snapkv", {{"mode", "constant"}, {"capacity", "8"}}, "above the window");
  expect_refused("fastkv", {{"tsp-layer", "12"}}, "outside the model");
  expect_refused("fastkv", {{"tsp-rate", "0"}}, "above 0 and at most 1");
  expect_refused("fastkv", {{"tsp-len", "100"}}, "--tsp-len has no meaning");
  expect_refused("fastkv", {{"mode", "constant"}, {"tsp-len", "8"}}, "above the window");
  expect_refused("gemfilter", {{"filter-layer", "-1"}}, "at least 0");
  expect_refused("gemfilter", {{"filter-layer", "12"}}, "outside the model");
  expect_refused("streamingllm", {{"mode", "constant"}, {"capacity", "4"}}, "above the sinks");
  expect_refused("pyramidinfer", {{"retain", "0.5"}, {"decay", "0.2"}}, "leave one of them out");
  expect_refused("pyramidinfer", {{"mode", "constant"}}, "needs --capacity");
}

}  // namespace
}  // namespace fastkv
