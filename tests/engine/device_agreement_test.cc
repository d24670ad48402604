// A device in its own precision against float32, on the trained model: what is kept, and what is
// answered. The float32 side runs on the same kind of device, which golden_test.cc holds to the
// goldens, and for some prompts on the processor.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "fastkv/engine.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using nlohmann::json;

bool has_cuda() { return list_devices().size() > 1; }

constexpr auto bundled = FASTKV_SOURCE_DIR "/models/needle-v2-14m";

EngineOptions options_for(const std::string& device, const std::string& dtype,
                          const std::filesystem::path& model = bundled) {
  EngineOptions options;
  options.model = model;
  options.device = device;
  options.dtype = dtype;
  return options;
}

/// A haystack of plain sentences with one number hidden in it, about `tokens` tokens long.
std::string make_prompt(const Engine& engine, std::mt19937& random, std::int64_t tokens) {
  static const std::vector<std::string> who = {"The captain",  "A young teacher",
                                               "My neighbour", "The old baker",
                                               "Our guide",    "Nobody in town"};
  static const std::vector<std::string> did = {"walked to",  "talked about", "painted",
                                               "remembered", "left",         "looked for"};
  static const std::vector<std::string> what = {"the harbour",  "a quiet garden", "the long bridge",
                                                "some letters", "the market",     "an empty house"};
  const auto pick = [&](const std::vector<std::string>& words) {
    return words[random() % words.size()];
  };
  const auto sentence = [&] { return pick(who) + " " + pick(did) + " " + pick(what) + ". "; };
  std::string probe;
  for (int i = 0; i < 100; ++i) probe += sentence();
  const double each = static_cast<double>(engine.text().encode(probe).size()) / 100;
  const auto sentences = static_cast<std::size_t>(static_cast<double>(tokens - 120) / each);
  const std::size_t at = random() % sentences;
  const std::string key = pick({"lamp", "river", "violin", "castle", "pepper"});
  const std::string number = std::to_string(1000000 + random() % 9000000);
  std::string text =
      "A special magic number is hidden within the following text. Make sure to memorize it. I "
      "will quiz you about the number afterwards.\n";
  for (std::size_t i = 0; i < sentences; ++i) {
    if (i == at) text += "One of the special magic numbers for " + key + " is: " + number + ". ";
    text += sentence();
  }
  text += "\nWhat is the special magic number for " + key + " mentioned in the provided text?";
  return engine.text().render_chat(std::vector<ChatMessage>{{"user", text}});
}

struct Outcome {
  json kept;
  std::vector<TokenId> answer;
};

Outcome run(Engine& engine, const MethodChoice& method, const std::string& prompt, bool trace) {
  Session session = engine.start(method, trace);
  session.append(engine.text().encode(prompt));
  GenerateOptions generate;
  generate.max_tokens = 12;
  Outcome outcome;
  outcome.answer = session.generate(generate).ids;
  if (trace) outcome.kept = json::parse(session.trace())["kept"];
  return outcome;
}

/// Share of the entries kept by one side that the other keeps too, over all layers and heads.
double overlap(const json& a, const json& b) {
  double common = 0, all = 0;
  for (std::size_t layer = 0; layer < a.size(); ++layer) {
    if (a[layer].is_null()) continue;
    for (std::size_t head = 0; head < a[layer].size(); ++head) {
      const auto kept = a[layer][head].get<std::set<std::int32_t>>();
      for (const auto& position : b[layer][head]) common += kept.contains(position.get<int>());
      all += static_cast<double>(kept.size());
    }
  }
  return common / all;
}

struct LeastShares {
  double snapkv, h2o, fastkv;
  double float32;  // of both devices
};

/// Prompts of up to 31,000 tokens: what a device keeps in bfloat16 and in float32.
void check_kept(const std::filesystem::path& model, const LeastShares& shares) {
  Engine narrow(options_for("cuda", "bfloat16", model));
  Engine wide(options_for("cuda", "float32", model));
  Engine cpu(options_for("cpu", "float32", model));
  std::mt19937 random(3);
  for (const std::int64_t tokens : {2000, 8000, 16000, 31000}) {
    const std::string prompt = make_prompt(cpu, random, tokens);
    // Layers past the one where FastKV lets tokens go on choose from sets that differ already.
    const std::vector<std::pair<std::string, double>> least = {
        {"snapkv", shares.snapkv}, {"h2o", shares.h2o}, {"fastkv", shares.fastkv}};
    for (const auto& [name, share] : least) {
      const Outcome a = run(narrow, {name, {}}, prompt, true);
      const Outcome b = run(wide, {name, {}}, prompt, true);
      const double shared = overlap(a.kept, b.kept);
      std::cout << tokens << " tokens, " << name << ": bfloat16 and float32 share " << 100 * shared
                << " % of what is kept\n";
      EXPECT_GE(shared, share);
      if (tokens > 8000) continue;
      const Outcome c = run(cpu, {name, {}}, prompt, true);
      const double devices = overlap(b.kept, c.kept);
      std::cout << tokens << " tokens, " << name << ": float32 on both devices share "
                << 100 * devices << " %\n";
      EXPECT_GE(devices, shares.float32) << "float32 on both devices";
      EXPECT_EQ(b.answer, c.answer);
    }
  }
}

TEST(DeviceAgreement, KeptEntriesOverlap) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  // In its layers 1 to 3 the logits of one query differ by hundreds: what rounding does to them
  // changes probabilities more than in other models, and of the smallest some are zero.
  check_kept(bundled, {.snapkv = 0.97, .h2o = 0.97, .fastkv = 0.95, .float32 = 0.99});
}

TEST(DeviceAgreement, KeptEntriesOverlapOnAnotherModel) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  const std::filesystem::path model = test::data_dir() / "models/needle-12m";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is not there";
  check_kept(model, {.snapkv = 0.99, .h2o = 0.99, .fastkv = 0.99, .float32 = 0.9999});
}

TEST(DeviceAgreement, GreedyAnswersAreTheSame) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  Engine narrow(options_for("cuda", "bfloat16"));
  Engine wide(options_for("cuda", "float32"));
  std::mt19937 random(4);
  int same = 0, repeated = 0;
  constexpr int prompts = 100;
  for (int i = 0; i < prompts; ++i) {
    const std::string prompt =
        make_prompt(wide, random, 1000 + static_cast<std::int64_t>(random() % 7000));
    const MethodChoice method{i % 2 ? "fastkv" : "full", {}};
    const Outcome a = run(narrow, method, prompt, false);
    same += a.answer == run(wide, method, prompt, false).answer;
    repeated += a.answer == run(narrow, method, prompt, false).answer;
  }
  std::cout << same << " of " << prompts << " answers are the same in bfloat16 and float32\n";
  EXPECT_GE(same, 95);
  EXPECT_EQ(repeated, prompts) << "the same run gives the same tokens";
}

}  // namespace
}  // namespace fastkv
