// Properties of sessions that must hold for every method and every checkpoint.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "fastkv/engine.h"

namespace fastkv {
namespace {

using nlohmann::json;

Engine make_engine(std::int64_t threads = 0, const std::string& dtype = "float32",
                   const std::string& model = "tests/fixtures/tiny-llama") {
  EngineOptions options;
  options.model = std::string(FASTKV_SOURCE_DIR) + "/" + model;
  options.dtype = dtype;
  options.threads = threads;
  return Engine(options);
}

/// Random weights of a small shape, and the config that says it, to be changed.
json small_shape() {
  return {{"architectures", {"MistralForCausalLM"}},
          {"model_type", "mistral"},
          {"hidden_act", "silu"},
          {"vocab_size", 512},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 32},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"max_position_embeddings", 4096}};
}
Engine make_engine(const json& shape, bool no_sliding_window = false) {
  const auto config = std::filesystem::temp_directory_path() /
                      ("fastkv_small_config." + std::to_string(getpid()) + ".json");
  std::ofstream(config) << shape.dump();
  EngineOptions options;
  options.random_weights = config.string();
  options.dtype = "float32";
  options.no_sliding_window = no_sliding_window;
  Engine engine(options);
  std::filesystem::remove(config);
  return engine;
}

std::vector<TokenId> random_ids(std::int64_t n, unsigned seed, TokenId vocabulary = 512) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids(static_cast<std::size_t>(n));
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % static_cast<unsigned>(vocabulary));
  return ids;
}

json trace_of(Engine& engine, const MethodChoice& method, std::span<const TokenId> ids) {
  Session session = engine.start(method, /*trace=*/true);
  session.append(ids);
  return json::parse(session.trace());
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << "logit " << i;
}

TEST(Session, RetainOneEqualsFull) {
  Engine engine = make_engine();
  const auto ids = random_ids(150, 1);
  const json full = trace_of(engine, {"full", {}}, ids);
  for (const char* method : {"snapkv", "h2o", "streamingllm"}) {
    const json got = trace_of(engine, {method, {{"retain", "1"}}}, ids);
    EXPECT_EQ(got["kept"], full["kept"]) << method;
    EXPECT_EQ(got["logits"], full["logits"]) << method;
  }
}

TEST(Session, TspRateOneEqualsSnapKV) {
  Engine engine = make_engine();
  const auto ids = random_ids(200, 2);
  const json fastkv = trace_of(engine, {"fastkv", {{"tsp-rate", "1"}, {"retain", "0.2"}}}, ids);
  const json snapkv = trace_of(engine, {"snapkv", {{"retain", "0.2"}}}, ids);
  EXPECT_EQ(fastkv["kept"], snapkv["kept"]);
  EXPECT_EQ(fastkv["logits"], snapkv["logits"]);
  EXPECT_TRUE(fastkv["propagated"].empty());
}

TEST(Session, PropagationDoesNotDependOnRetain) {
  Engine engine = make_engine();
  const auto ids = random_ids(200, 3);
  const json low = trace_of(engine, {"fastkv", {{"retain", "0.1"}}}, ids);
  const json all = trace_of(engine, {"fastkv", {{"retain", "1"}}}, ids);
  EXPECT_EQ(low["propagated"], all["propagated"]);
  EXPECT_EQ(all["kept"][0], nullptr);
}

TEST(Session, ContinuingEqualsOneLongerPrompt) {
  Engine engine = make_engine();
  const auto ids = random_ids(131, 4);
  Session whole = engine.start({"full", {}});
  whole.append(ids);
  // Around page and vector sizes, and token by token at the end.
  Session parts = engine.start({"full", {}});
  std::size_t at = 0;
  for (const std::size_t n : {1, 63, 1, 64, 1, 1}) {
    parts.append(std::span(ids).subspan(at, n));
    at += n;
  }
  ASSERT_EQ(at, ids.size());
  expect_near(parts.logits(), whole.logits(), 2e-4);
  EXPECT_EQ(parts.position(), whole.position());
}

TEST(Session, ContinuesAfterCompression) {
  Engine engine = make_engine();
  const auto ids = random_ids(300, 5);
  for (const MethodInfo& method : engine.methods()) {
    Session session = engine.start({method.name, {}});
    session.append(std::span(ids).first(260));
    const std::int64_t before = session.position();
    session.append(std::span(ids).subspan(260));
    EXPECT_EQ(session.position(), before + 40) << method.name;
    for (const float logit : session.logits()) ASSERT_TRUE(std::isfinite(logit)) << method.name;
  }
}

TEST(Session, ThreadCountDoesNotChangeResults) {
  const auto ids = random_ids(333, 6);
  std::vector<json> traces;
  for (const int threads : {1, 2, 3}) {
    Engine engine = make_engine(threads);
    json all = json::array();
    for (const MethodInfo& method : engine.methods())
      all.push_back(trace_of(engine, {method.name, {}}, ids));
    traces.push_back(std::move(all));
  }
  EXPECT_EQ(traces[0], traces[1]);
  EXPECT_EQ(traces[0], traces[2]);
}

TEST(Session, OddPromptLengthsUnderEveryMethod) {
  Engine engine = make_engine();
  for (const std::int64_t n : {1, 2, 7, 8, 9, 10, 15, 16, 17, 63, 64, 65, 127, 128, 129, 257}) {
    const auto ids = random_ids(n, static_cast<unsigned>(n));
    for (const MethodInfo& method : engine.methods()) {
      SCOPED_TRACE(method.name + " " + std::to_string(n));
      Session session = engine.start({method.name, {}}, /*trace=*/true);
      session.append(ids);
      GenerateOptions generate;
      generate.max_tokens = 3;
      generate.ignore_eos = true;
      EXPECT_EQ(session.generate(generate).ids.size(), 3U);
      const json trace = json::parse(session.trace());
      for (const json& heads : trace["kept"]) {
        if (heads.is_null()) continue;
        for (const json& head : heads) {
          EXPECT_TRUE(std::is_sorted(head.begin(), head.end()));
          EXPECT_EQ(head.back(), n - 1) << "the window is always kept";
        }
      }
    }
  }
}

// A narrow model makes 32K tokens cheap; buffers and positions are as long as for a wide one.
TEST(Session, LongPromptsUnderEveryMethod) {
  const auto config = std::filesystem::temp_directory_path() / "fastkv_long_config.json";
  const json shape = {{"architectures", {"LlamaForCausalLM"}},
                      {"vocab_size", 512},
                      {"hidden_size", 32},
                      {"intermediate_size", 64},
                      {"num_hidden_layers", 2},
                      {"num_attention_heads", 2},
                      {"num_key_value_heads", 1},
                      {"head_dim", 32},
                      {"rms_norm_eps", 1e-5},
                      {"rope_theta", 500000.0},
                      {"max_position_embeddings", 40000}};
  std::ofstream(config) << shape.dump();
  EngineOptions options;
  options.random_weights = config.string();
  Engine engine(options);
  std::filesystem::remove(config);
  const std::int64_t n = 32768 + 1;
  const auto ids = random_ids(n, 11);
  for (const MethodInfo& method : engine.methods()) {
    SCOPED_TRACE(method.name);
    Session session = engine.start({method.name, {}});
    session.append(ids);
    const Report& r = session.report();
    EXPECT_LE(r.kv_bytes, r.kv_bytes_full);
    EXPECT_EQ(r.prompt_tokens, n);
    for (const float logit : session.logits()) ASSERT_TRUE(std::isfinite(logit));
    // One buffer of n x n probabilities alone would be 4 GiB.
    EXPECT_LT(r.peak_memory, std::size_t{2} << 30);
  }
}

TEST(Session, ManySequencesDecodeTogetherAsAlone) {
  Engine engine = make_engine();
  const char* methods[] = {"full", "fastkv", "h2o", "streamingllm"};
  std::vector<Session> together, alone;
  for (int i = 0; i < 4; ++i) {
    const auto ids = random_ids(40 + 50 * i, static_cast<unsigned>(i));
    together.push_back(engine.start({methods[i], {}}));
    alone.push_back(engine.start({methods[i], {}}));
    together.back().append(ids);
    alone.back().append(ids);
  }
  std::vector<Session*> all;
  for (Session& s : together) all.push_back(&s);
  for (TokenId step = 0; step < 5; ++step) {
    const std::vector<TokenId> tokens = {step, 10 + step, 20 + step, 30 + step};
    Session::step(all, tokens);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      Session* one = &alone[i];
      Session::step({&one, 1}, {&tokens[i], 1});
      expect_near(together[i].logits(), alone[i].logits(), 2e-4);
    }
  }
}

Sampling sampling(double temperature, std::int64_t seed) {
  Sampling s;
  s.temperature = temperature;
  s.seed = seed;
  return s;
}

std::vector<TokenId> generated(Session& session, const Sampling& s, std::int64_t tokens,
                               std::int64_t min_tokens = 0) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.min_tokens = min_tokens;
  options.sampling = s;
  options.ignore_eos = true;
  return session.generate(options).ids;
}

TEST(Session, DeviceAndHostDrawTheSameTokens) {
  // Without end tokens the least number of tokens changes nothing but who draws.
  Engine engine = make_engine(small_shape());
  const auto ids = random_ids(60, 13);
  Session device = engine.start({"full", {}}), host = engine.start({"full", {}});
  device.append(ids);
  host.append(ids);
  Sampling narrow = sampling(0.7, 5);
  narrow.top_k = 40;
  narrow.top_p = 0.9;
  narrow.min_p = 0.01;
  // Steps that draw and steps that take the most likely token, one after the other.
  for (const Sampling& s : {sampling(0, 0), sampling(1, 3), narrow, sampling(0, 0), sampling(3, 4)})
    EXPECT_EQ(generated(device, s, 10), generated(host, s, 10, 10)) << s.temperature;
}

TEST(Session, SampledTokensDoNotEndTooEarly) {
  json shape = small_shape();
  std::vector<TokenId> ends(400);
  std::iota(ends.begin(), ends.end(), 0);
  shape["eos_token_id"] = ends;
  Engine engine = make_engine(shape);
  Session session = engine.start({"full", {}});
  session.append(random_ids(30, 14));
  const auto tokens = generated(session, sampling(2, 1), 40, 20);
  ASSERT_EQ(tokens.size(), 40U);
  const auto is_end = [](TokenId token) { return token < 400; };
  EXPECT_TRUE(std::none_of(tokens.begin(), tokens.begin() + 20, is_end));
  EXPECT_TRUE(std::any_of(tokens.begin() + 20, tokens.end(), is_end));
}

TEST(Session, ManySequencesSampleTogetherAsAlone) {
  Engine engine = make_engine();
  std::vector<Sampling> samplings = {sampling(1, 1), sampling(0, 0), sampling(0.8, 2),
                                     sampling(1.2, 3), sampling(1, 1)};
  samplings[2].top_k = 20;
  samplings[2].top_p = 0.95;
  samplings[3].repeat_penalty = 1.3;
  constexpr std::size_t count = 12;
  std::vector<Session> together;
  std::vector<std::vector<TokenId>> drawn, expected;
  for (std::size_t i = 0; i < samplings.size(); ++i) {
    const auto ids = random_ids(40 + 30 * static_cast<std::int64_t>(i), 20);
    Session alone = engine.start({"fastkv", {}});
    alone.append(ids);
    expected.push_back(generated(alone, samplings[i], count));
    together.push_back(engine.start({"fastkv", {}}));
    together.back().append(ids);
    together.back().set_sampling(samplings[i]);
    drawn.push_back({together.back().draw()});
  }
  std::vector<Session*> all;
  for (Session& s : together) all.push_back(&s);
  while (drawn.front().size() < count) {
    std::vector<TokenId> tokens;
    for (const auto& of_session : drawn) tokens.push_back(of_session.back());
    tokens = Session::step(all, tokens);
    for (std::size_t i = 0; i < drawn.size(); ++i) drawn[i].push_back(tokens[i]);
  }
  EXPECT_EQ(drawn, expected);
}

TEST(Session, StepGoesOnWithWhatWasDrawnLast) {
  Engine engine = make_engine(small_shape());
  const auto ids = random_ids(50, 15);
  Session whole = engine.start({"full", {}});
  whole.append(ids);
  const auto expected = generated(whole, {}, 8);
  Session parts = engine.start({"full", {}});
  parts.append(ids);
  std::vector<TokenId> drawn = generated(parts, {}, 4);
  Session* one = &parts;
  const TokenId other = (drawn.back() + 1) % 512;
  EXPECT_THROW(Session::step({&one, 1}, {&other, 1}), Error) << "a drawn token is left out";
  EXPECT_THROW(parts.draw(), Error);
  while (drawn.size() < 8) drawn.push_back(Session::step({&one, 1}, {&drawn.back(), 1}).front());
  EXPECT_EQ(drawn, expected);
  EXPECT_EQ(parts.position(), 50 + 7);

  const std::vector<Session*> twice = {one, one};
  EXPECT_THROW(Session::step(twice, std::vector<TokenId>{1, 1}), Error);
  Engine another = make_engine(small_shape());
  Session stranger = another.start({"full", {}});
  stranger.append(ids);
  const std::vector<Session*> two = {one, &stranger};
  EXPECT_THROW(Session::step(two, std::vector<TokenId>{1, 1}), Error);
  EXPECT_EQ(parts.position(), 50 + 7);
}

TEST(Session, ADrawnTokenNeedsAPosition) {
  json shape = small_shape();
  shape["max_position_embeddings"] = 20;
  Engine engine = make_engine(shape);
  Session session = engine.start({"full", {}});
  session.append(random_ids(19, 16));
  generated(session, {}, 1);
  EXPECT_THROW(session.append(random_ids(1, 17)), Error);
  EXPECT_EQ(session.position(), 19);
}

TEST(Session, TheFirstTokensTimeIsThatOfThePrompt) {
  Engine engine = make_engine(small_shape());
  Session session = engine.start({"full", {}});
  session.append(random_ids(100, 18));
  generated(session, {}, 3);
  const double first = session.report().first_token_seconds;
  EXPECT_GT(first, session.report().prefill_seconds);
  session.append(random_ids(5, 19));
  generated(session, {}, 3);
  EXPECT_EQ(session.report().first_token_seconds, first);
}

TEST(Session, AnAppendThatFailsLeavesAnEmptySession) {
  Engine engine = make_engine(small_shape());
  const auto ids = random_ids(60, 20);
  Session fresh = engine.start({"snapkv", {}});
  fresh.append(ids);
  Session session = engine.start({"snapkv", {}});
  session.append(random_ids(40, 21));
  generated(session, {}, 2);
  const auto fails = [](double) { throw std::runtime_error("stop"); };
  EXPECT_THROW(session.append(random_ids(5, 22), fails), std::runtime_error);
  EXPECT_EQ(session.position(), 0);
  EXPECT_EQ(session.report().prompt_tokens, 0);
  EXPECT_THROW(session.logits(), Error);
  EXPECT_THROW(session.draw(), Error);
  session.append(ids);
  EXPECT_EQ(session.logits(), fresh.logits());
  EXPECT_EQ(generated(session, {}, 3), generated(fresh, {}, 3));
}

TEST(Chat, AnswersThatAreCutOffAreClosed) {
  EngineOptions options;
  options.model = FASTKV_SOURCE_DIR "/models/needle-v2-14m";
  options.dtype = "float32";
  Engine engine(options);
  for (std::int64_t tokens : {0, 1, 2}) {
    Session session = engine.start({"full", {}});
    Chat chat(engine, session, "");
    GenerateOptions generate;
    generate.max_tokens = tokens;
    std::vector<ChatMessage> messages;
    for (const char* said : {"The key of ott is 12345678. What is the key of ott?", "And now?"}) {
      messages.push_back({"user", said});
      const std::string whole = engine.text().render_chat(messages, true);
      const auto position = static_cast<std::int64_t>(engine.text().encode(whole).size());
      const Generation answer = chat.say(said, generate);
      // All but the token drawn last has been through the model.
      EXPECT_EQ(session.position(), position + std::max<std::int64_t>(tokens - 1, 0))
          << tokens << " tokens, " << said << answer.text;
      messages.push_back({"assistant", answer.text});
    }
  }
}

/// The bundled model with one file changed, as links beside it.
class ChangedModel {
 public:
  ChangedModel(const std::string& file, const std::function<void(json&)>& change) {
    const std::filesystem::path model = FASTKV_SOURCE_DIR "/models/needle-v2-14m";
    directory_ = std::filesystem::temp_directory_path() /
                 ("fastkv_changed_model." + std::to_string(getpid()));
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
    for (const auto& entry : std::filesystem::directory_iterator(model)) {
      const auto name = entry.path().filename();
      if (name != file) std::filesystem::create_symlink(entry.path(), directory_ / name);
    }
    json content = json::parse(std::ifstream(model / file));
    change(content);
    std::ofstream(directory_ / file) << content.dump();
  }
  ~ChangedModel() { std::filesystem::remove_all(directory_); }
  ChangedModel(const ChangedModel&) = delete;
  ChangedModel& operator=(const ChangedModel&) = delete;

  Engine engine() const {
    EngineOptions options;
    options.model = directory_.string();
    options.dtype = "float32";
    return Engine(options);
  }

 private:
  std::filesystem::path directory_;
};

TEST(Chat, WhatTheTemplateWritesBehindAnEndTokenIsKept) {
  const ChangedModel model("tokenizer_config.json", [](json& config) {
    auto text = config["chat_template"].get<std::string>();
    const std::string end = "'<|eot_id|>'";
    text.replace(text.find(end), end.size(), "'<|eot_id|>\n'");
    config["chat_template"] = text;
  });
  Engine engine = model.engine();
  Session session = engine.start({"full", {}});
  Chat chat(engine, session, "");
  GenerateOptions generate;
  generate.max_tokens = 100;
  std::vector<ChatMessage> messages;
  for (const char* said : {"The key of ott is 12345678. What is the key of ott?", "And now?"}) {
    messages.push_back({"user", said});
    const auto whole = engine.text().encode(engine.text().render_chat(messages, true));
    const Generation answer = chat.say(said, generate);
    ASSERT_EQ(answer.reason, FinishReason::end_token);
    EXPECT_EQ(session.position(), static_cast<std::int64_t>(whole.size() + answer.ids.size()) - 1);
    messages.push_back({"assistant", answer.text});
  }
}

TEST(Session, IdsBeyondTheTokenizerHaveNoText) {
  const ChangedModel model("tokenizer.json", [](json& tokenizer) {
    json& added = tokenizer["added_tokens"];
    added.erase(added.begin() + 1, added.end() - 1);
    added.back()["id"] = added.front()["id"].get<int>() + 1;  // the end token, moved down
  });
  Engine engine = model.engine();
  ASSERT_LT(engine.text().vocab_size(), engine.info().vocab_size);
  EXPECT_THROW(engine.text().decode(std::vector<TokenId>{4093}), Error);
  GenerateOptions generate;
  generate.max_tokens = 200;
  generate.ignore_eos = true;
  generate.sampling.temperature = 1000;  // any id
  TokenId highest = 0;
  for (; highest < engine.text().vocab_size() && generate.sampling.seed < 100;
       ++generate.sampling.seed) {
    Session session = engine.start({"full", {}});
    session.append(engine.text().encode("Hello there"));
    const Generation answer = session.generate(generate);
    EXPECT_EQ(answer.ids.size(), 200U);
    highest = *std::max_element(answer.ids.begin(), answer.ids.end());
  }
  EXPECT_GE(highest, engine.text().vocab_size());
}

TEST(Session, EndTokensCanBeGiven) {
  Engine engine = make_engine();
  const auto ids = random_ids(40, 33);
  Session session = engine.start({"full", {}});
  session.append(ids);
  GenerateOptions generate;
  generate.max_tokens = 12;
  generate.ignore_eos = true;
  const std::vector<TokenId> free = session.generate(generate).ids;
  generate.ignore_eos = false;
  generate.end_ids = {free.at(5)};
  const auto first = std::find(free.begin(), free.end(), free[5]);
  Session again = engine.start({"full", {}});
  again.append(ids);
  const Generation ended = again.generate(generate);
  EXPECT_EQ(ended.reason, FinishReason::end_token);
  EXPECT_EQ(ended.ids, std::vector<TokenId>(free.begin(), first + 1));
  generate.end_ids = {512};
  EXPECT_THROW(again.generate(generate), Error);
}

TEST(Session, TheLastTokensGoOnBeforeTheFirst) {
  Engine engine = make_engine();
  const auto ids = random_ids(30, 31);
  const json trace =
      trace_of(engine, {"pyramidinfer", {{"min-context", "0"}, {"decay", "0.01"}}}, ids);
  const auto last = trace["propagated"].items();
  std::size_t layers = 0;
  for (const auto& [layer, positions] : last) {
    EXPECT_EQ(positions.back(), 29) << "layer " << layer;
    EXPECT_EQ(positions[positions.size() - 7], 23) << "layer " << layer;
    ++layers;
  }
  EXPECT_GE(layers, 3U);
}

TEST(Session, DroppedEntriesAreFree) {
  Engine engine = make_engine();
  const auto ids = random_ids(640, 8);
  Session full = engine.start({"full", {}});
  Session tenth = engine.start({"snapkv", {{"retain", "0.1"}}});
  full.append(ids);
  tenth.append(ids);
  EXPECT_EQ(full.report().kv_bytes, full.report().kv_bytes_full);
  EXPECT_EQ(tenth.report().kv_bytes * 10, full.report().kv_bytes);
}

TEST(Session, SlidingWindowIsHonoured) {
  // A copy of the config with a window: a prompt within it must not notice, a longer one must.
  json shape = small_shape();
  shape["sliding_window"] = 50;
  Engine windowed = make_engine(shape);
  Engine whole = make_engine(shape, /*no_sliding_window=*/true);
  const auto logits = [](Engine& engine, std::span<const TokenId> ids, std::size_t first) {
    Session session = engine.start({"full", {}});
    session.append(ids.first(first));
    if (first < ids.size()) session.append(ids.subspan(first));
    return session.logits();
  };
  const auto ids = random_ids(120, 9);
  expect_near(logits(windowed, std::span(ids).first(50), 50),
              logits(whole, std::span(ids).first(50), 50), 1e-5);
  EXPECT_NE(logits(windowed, ids, 120), logits(whole, ids, 120));
  // Cached entries outside the window do not count either.
  expect_near(logits(windowed, ids, 120), logits(windowed, ids, 77), 2e-4);

  // Reports count what windows let attention see, also where tokens stay behind.
  const auto report = [&](const MethodChoice& method, int window) {
    shape["sliding_window"] = window;
    Engine engine = make_engine(shape);
    Session session = engine.start(method);
    session.append(ids);
    return session.report();
  };
  const MethodChoice full{"full", {}}, half{"fastkv", {{"tsp-layer", "0"}, {"tsp-rate", "0.5"}}};
  const double a_pair = 4.0 * 4 * 32;
  EXPECT_EQ(report(full, 50).attention_flops, 3 * a_pair * (50 * 51 / 2 + 70 * 50));
  EXPECT_EQ(report(full, 200).attention_flops, 3 * a_pair * (120 * 121 / 2));
  EXPECT_EQ(report(half, 1).attention_flops, a_pair * (120 + 2 * 60));
  EXPECT_LT(report(half, 119).attention_flops, report(half, 120).attention_flops);
  EXPECT_EQ(report(full, 50).kv_bytes_read * 120, report(full, 50).kv_bytes * 50);
}

TEST(Session, NoEndTokenBeforeTheLeastNumberOfTokens) {
  json shape = small_shape();
  const auto ids = random_ids(64, 10);
  const auto answer = [&](std::int64_t least, double temperature) {
    Engine engine = make_engine(shape);
    Session session = engine.start({"full", {}});
    session.append(ids);
    GenerateOptions generate;
    generate.max_tokens = 8;
    generate.min_tokens = least;
    generate.sampling.temperature = temperature;
    return session.generate(generate);
  };
  // The tokens that come first become end tokens.
  const TokenId first = answer(0, 0).ids.at(0);
  shape["eos_token_id"] = {first};
  shape["eos_token_id"].push_back(answer(1, 0).ids.at(0));
  EXPECT_EQ(answer(0, 0).ids, std::vector<TokenId>{first});
  EXPECT_EQ(answer(0, 0).reason, FinishReason::end_token);
  for (const double temperature : {0.0, 1.0}) {
    for (const std::int64_t least : {1, 3, 8}) {
      const Generation g = answer(least, temperature);
      ASSERT_GE(static_cast<std::int64_t>(g.ids.size()), least);
      for (std::int64_t i = 0; i < least; ++i) {
        for (const TokenId end : shape["eos_token_id"])
          EXPECT_NE(g.ids[static_cast<std::size_t>(i)], end) << temperature << " " << i;
      }
    }
  }
}

TEST(Session, SamplingIsReproducible) {
  Engine engine = make_engine();
  const auto ids = random_ids(64, 10);
  const auto draw = [&](double repeat_penalty, std::int64_t seed) {
    Session session = engine.start({"fastkv", {}});
    session.append(ids);
    GenerateOptions generate;
    generate.max_tokens = 20;
    generate.ignore_eos = true;
    generate.sampling = {.temperature = 1.0,
                         .top_k = 50,
                         .top_p = 0.95,
                         .min_p = 0.01,
                         .repeat_penalty = repeat_penalty,
                         .seed = seed};
    return session.generate(generate).ids;
  };
  for (const double penalty : {1.0, 1.1}) {
    EXPECT_EQ(draw(penalty, 1), draw(penalty, 1));
    EXPECT_NE(draw(penalty, 1), draw(penalty, 2));
  }
}

// Each trained model of models/ against the oracle's text in its golden.jsonl.
class TrainedModel : public testing::TestWithParam<const char*> {
 protected:
  /// Rows of the model's golden.jsonl.
  std::vector<json> golden() {
    std::ifstream file(std::string(FASTKV_SOURCE_DIR) + "/models/" + GetParam() + "/golden.jsonl");
    std::vector<json> rows;
    for (std::string line; std::getline(file, line);) rows.push_back(json::parse(line));
    EXPECT_GE(rows.size(), 10U);
    return rows;
  }
  Generation answer(Engine& engine, const MethodChoice& method, const json& row, const json& want) {
    Session session = engine.start(method);
    session.append(row["ids"].get<std::vector<TokenId>>());
    GenerateOptions generate;
    generate.max_tokens = static_cast<std::int64_t>(want["ids"].size());
    return session.generate(generate);
  }
};

TEST_P(TrainedModel, Bfloat16KeepsGreedyTextUnderFullKv) {
  Engine engine = make_engine(0, "bfloat16", std::string("models/") + GetParam());
  for (const json& row : golden()) {
    const json& want = row["out"]["full"];
    const Generation got = answer(engine, {"full", {}}, row, want);
    EXPECT_EQ(got.ids, want["ids"].get<std::vector<TokenId>>());
    EXPECT_EQ(got.text, want["text"].get<std::string>());
  }
}

TEST_P(TrainedModel, Float32MatchesTheOracleUnderEachMethod) {
  Engine engine = make_engine(0, "float32", std::string("models/") + GetParam());
  std::vector<json> rows = golden();
  rows.resize(5);  // the rest are longer of the same kind
  for (const json& row : rows) {
    std::string prompt = row["prompt"];
    if (row["chat"]) prompt = engine.text().render_chat(std::vector<ChatMessage>{{"user", prompt}});
    EXPECT_EQ(engine.text().encode(prompt), row["ids"].get<std::vector<TokenId>>());
    for (const auto& [name, want] : row["out"].items()) {
      MethodChoice method{name.substr(0, name.find('_')),
                          {}};  // "fastkv_20" is fastkv, other options
      for (const auto& [key, value] : want["options"].items()) {
        std::string option = key;
        std::replace(option.begin(), option.end(), '_', '-');
        method.options[option] = value.dump();
      }
      EXPECT_EQ(answer(engine, method, row, want).ids, want["ids"].get<std::vector<TokenId>>())
          << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TrainedModel, testing::Values("needle-v2-14m"),
                         [](const testing::TestParamInfo<const char*>& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Session, PlansMemoryBeforeItIsUsed) {
  Engine engine = make_engine();
  Session full = engine.start({"full", {}});
  Session small = engine.start({"streamingllm", {{"retain", "0.1"}}});
  const MemoryPlan plan = full.plan(4000);
  EXPECT_EQ(plan.weights, engine.info().weight_bytes);
  EXPECT_TRUE(plan.fits());
  EXPECT_GT(plan.prompt, engine.info().kv_bytes_per_token * 4000);
  EXPECT_LT(small.plan(4000).prompt, plan.prompt);
  EXPECT_FALSE(full.plan(std::int64_t{1} << 40).fits());
  EXPECT_EQ(full.plan(std::int64_t{1} << 40).sequences(), 0);
  EXPECT_GE(plan.kept, engine.info().kv_bytes_per_token * 4000);
  MemoryPlan tight{.weights = 0, .prompt = 30, .kept = 10, .free = 30};
  EXPECT_EQ(tight.sequences(), 1);
  tight.free = 59;  // two more leave their 10
  EXPECT_EQ(tight.sequences(), 3);
  full.append(std::vector<TokenId>(100, 1));
  EXPECT_EQ(full.report().planned_memory, full.plan(100).prompt);
}

TEST(Session, RefusesBadPromptsInASentence) {
  Engine engine = make_engine();
  Session session = engine.start({"full", {}});
  const auto refuses = [&](std::vector<TokenId> ids, const std::string& words) {
    try {
      session.append(ids);
      ADD_FAILURE() << "accepted: " << words;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  refuses({}, "empty");
  refuses({1, 512}, "outside the vocabulary");
  refuses({-1}, "outside the vocabulary");
  refuses(std::vector<TokenId>(8193, 1), "--max-positions");
  EXPECT_THROW(session.generate({}), Error);
  EXPECT_THROW(session.logits(), Error);
}

}  // namespace
}  // namespace fastkv
