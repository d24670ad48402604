// The contract: every case of tests/fixtures/*/golden.json, through the public interface.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fastkv/engine.h"

namespace fastkv {
namespace {

using nlohmann::json;

struct GoldenCase {
  std::string device;
  std::string model;
  std::size_t index;
};
std::ostream& operator<<(std::ostream& out, const GoldenCase& c) {
  return out << c.device << " " << c.model << " " << c.index;
}

const json& golden(const std::string& model) {
  static std::map<std::string, json> files;
  json& file = files[model];
  if (file.is_null()) {
    std::ifstream in(std::string(FASTKV_SOURCE_DIR) + "/tests/fixtures/" + model + "/golden.json");
    file = json::parse(in);
  }
  return file;
}

Engine& engine(const std::string& device, const std::string& model) {
  static std::map<std::string, std::unique_ptr<Engine>> engines;
  std::unique_ptr<Engine>& e = engines[device + model];
  if (!e) {
    EngineOptions options;
    options.device = device;
    options.model = std::string(FASTKV_SOURCE_DIR) + "/tests/fixtures/" + model;
    options.dtype = "float32";
    e = std::make_unique<Engine>(options);
  }
  return *e;
}

/// The case's options as they are typed.
OptionValues typed_options(const json& options) {
  OptionValues values;
  for (const auto& [key, value] : options.items()) {
    if (key == "group") {
      values["granularity"] = value.get<bool>() ? "kv-head" : "query-head";
      continue;
    }
    std::string name = key;
    for (char& c : name) c = c == '_' ? '-' : c;
    values[name] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return values;
}

class Golden : public testing::TestWithParam<GoldenCase> {};

TEST_P(Golden, SelectionsLogitsAndText) {
  const json& file = golden(GetParam().model);
  const json& want = file["cases"][GetParam().index];
  SCOPED_TRACE(want["method"].get<std::string>() + " " + want["options"].dump());
  const auto ids =
      file["prompts"][std::to_string(want["prompt_len"].get<int>())].get<std::vector<TokenId>>();

  Session session = engine(GetParam().device, GetParam().model)
                        .start({want["method"], typed_options(want["options"])}, /*trace=*/true);
  session.append(ids);
  const json got = json::parse(session.trace());

  // The golden text, token by token. Two tokens whose logits differ by less than float32 can tell
  // (one case has a gap of 1e-6 in exact arithmetic) may change places.
  for (const TokenId token : want["greedy"].get<std::vector<TokenId>>()) {
    const std::vector<float> logits = session.logits();
    const float best = *std::max_element(logits.begin(), logits.end());
    EXPECT_GE(logits[static_cast<std::size_t>(token)], best - 2e-5F) << "token " << token;
    Session* self = &session;
    Session::step({&self, 1}, {&token, 1});
  }

  for (const char* field :
       {"method", "prompt_len", "layer_tokens", "kv_len", "kv_heads", "kept", "propagated"}) {
    EXPECT_EQ(got[field], want[field]) << field;
  }
  ASSERT_EQ(got["logits"].size(), want["logits"].size());
  double worst = 0;
  for (std::size_t i = 0; i < want["logits"].size(); ++i) {
    worst =
        std::max(worst, std::abs(got["logits"][i].get<double>() - want["logits"][i].get<double>()));
  }
  EXPECT_LE(worst, 1e-3);
}

std::vector<GoldenCase> all_cases() {
  std::vector<GoldenCase> cases;
  for (const std::string& line : list_devices()) {
    const std::string device = line.substr(0, line.find(':'));
    for (const char* model : {"tiny-llama", "tiny-ministral"}) {
      for (std::size_t i = 0; i < golden(model)["cases"].size(); ++i)
        cases.push_back({device, model, i});
    }
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<GoldenCase>& info) {
  std::string name =
      info.param.device + "_" + info.param.model + "_" + std::to_string(info.param.index) + "_" +
      golden(info.param.model)["cases"][info.param.index]["method"].get<std::string>();
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Golden, testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace fastkv
