#include "fastkv/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "eval/selection.h"
#include "fastkv/engine.h"
#include "support/expect_error.h"

namespace fastkv {
namespace {

using nlohmann::json;

json small_trace() {
  return {{"method", "fastkv"},
          {"options", {{"retain", 0.5}}},
          {"prompt_len", 4},
          {"kv_heads", {2, 2, 2}},
          {"kept", {{{0, 3}, {1, 3}}, nullptr, {{1, 3}, {1, 3}}}},
          {"propagated", {{"1", {1, 3}}}}};
}

TEST(Selection, CountsHeadsAndKnowsWhoComesToALayer) {
  const TracedSelection s = read_selection(small_trace().dump());
  ASSERT_EQ(s.layers.size(), 3U);
  EXPECT_EQ(s.layers[0].kept, (std::vector<std::int64_t>{1, 1, 0, 2}));
  EXPECT_EQ(s.layers[1].kept, (std::vector<std::int64_t>{2, 2, 2, 2}));
  EXPECT_EQ(s.layers[2].kept, (std::vector<std::int64_t>{0, 2, 0, 2}));
  EXPECT_EQ(s.layers[1].entered, std::vector<bool>(4, true));
  EXPECT_EQ(s.layers[2].entered, (std::vector<bool>{false, true, false, true}));
  EXPECT_DOUBLE_EQ(overlap(s.layers[0], s.layers[2]), 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(overlap(s.layers[1], s.layers[2]), 0.5);
}

TEST(Selection, OfAMethodThatStartsOverIsTheSameInAllLayers) {
  json trace = small_trace();
  trace["kept"] = json::array();
  const TracedSelection s = read_selection(trace.dump());
  for (const TracedSelection::Layer& layer : s.layers)
    EXPECT_EQ(layer.kept, (std::vector<std::int64_t>{0, 2, 0, 2}));
}

TEST(Selection, RefusesWhatIsNoTrace) {
  test::expect_error([] { read_selection("{}"); }, {"method"});
  json trace = small_trace();
  trace["kept"][0][0][0] = 4;
  test::expect_error([&] { read_selection(trace.dump()); }, {"position 4 in a prompt of 4"});
}

TEST(InspectionPage, HasTextSelectionsAndCurvesInOneFile) {
  const std::string page =
      inspection_page("a <model>", {"The", " </script> fox", " is", " red"}, small_trace().dump());
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_NE(page.find("<title>fastkv: a &lt;model></title>"), std::string::npos);
  EXPECT_NE(page.find(R"(" \u003c/script> fox")"), std::string::npos) << "must not end the script";
  // Layer 2: tokens 0 and 2 did not come, both heads keep the others.
  EXPECT_NE(page.find(R"("kept":[-1,1,2,1,-1,1,2,1])"), std::string::npos) << page;
  EXPECT_NE(page.find(R"("kept":[2,4])"), std::string::npos);
  EXPECT_NE(page.find("What layers' selections have in common"), std::string::npos);
  EXPECT_NE(page.find("Every layer with every other"), std::string::npos);
  EXPECT_EQ(page.find("src="), std::string::npos) << "needs nothing else";
  EXPECT_EQ(page.find("href="), std::string::npos);
}

TEST(InspectionPage, ShowsEveryMethodOfARealModel) {
  EngineOptions options;
  options.model = std::string(FASTKV_SOURCE_DIR) + "/models/needle-v2-14m";
  Engine engine(options);
  std::string text;
  for (int i = 0; i < 30; ++i) text += "The ferry left at nine, caf\u00e9 \u4e2d closed. ";
  const std::vector<TokenId> ids = engine.text().encode(text);
  const std::vector<std::string> tokens = token_texts(engine.text(), ids);
  ASSERT_EQ(tokens.size(), ids.size());
  const std::string joined = std::accumulate(tokens.begin(), tokens.end(), std::string());
  EXPECT_NE(joined.find("The ferry left at nine"), std::string::npos) << joined;
  for (const MethodInfo& method : engine.methods()) {
    Session session = engine.start({method.name, {}}, /*trace=*/true);
    session.append(ids);
    const TracedSelection s = read_selection(session.trace());
    ASSERT_EQ(static_cast<std::int64_t>(s.layers.size()), engine.info().layers) << method.name;
    std::size_t entries = 0;
    for (const TracedSelection::Layer& layer : s.layers)
      entries += static_cast<std::size_t>(
          std::accumulate(layer.kept.begin(), layer.kept.end(), std::int64_t{0}));
    const ModelInfo& info = engine.info();
    const std::size_t entry_bytes =
        info.kv_bytes_per_token / static_cast<std::size_t>(info.layers * info.kv_heads);
    EXPECT_EQ(entries * entry_bytes, session.report().kv_bytes) << method.name;
    EXPECT_NE(inspection_page("m", tokens, session.trace()).find("</html>"), std::string::npos);
  }
}

}  // namespace
}  // namespace fastkv
