#include "eval/sweep.h"

#include <gtest/gtest.h>

#include <set>

#include "eval/identity.h"
#include "eval/sha256.h"
#include "support/expect_error.h"

namespace fastkv {
namespace {

std::string text_of(const std::vector<MethodChoice>& choices) {
  std::string text;
  for (const MethodChoice& c : choices) {
    text += c.name;
    for (const auto& [name, value] : c.options) text += " " + name + "=" + value;
    text += "\n";
  }
  return text;
}

TEST(Sweep, CombinesWhatAMethodUnderstandsOnce) {
  EXPECT_EQ(text_of(sweep("full,snapkv,fastkv,snapkv",
                          {{"retain", "0.1,0.2"}, {"tsp-layer", "3,5"}}, list_methods())),
            "full\n"
            "snapkv retain=0.1\nsnapkv retain=0.2\n"
            "fastkv retain=0.1 tsp-layer=3\nfastkv retain=0.1 tsp-layer=5\n"
            "fastkv retain=0.2 tsp-layer=3\nfastkv retain=0.2 tsp-layer=5\n");
  EXPECT_EQ(sweep("all", {}, list_methods()).size(), list_methods().size());
}

TEST(Sweep, RefusesWhatNobodyKnows) {
  const auto methods = list_methods();
  test::expect_error([&] { sweep("full,quest", {}, methods); }, {"no method 'quest'; the methods"});
  test::expect_error([&] { sweep("full,h2o", {{"tsp-layer", "3"}}, methods); }, {"--tsp-layer"});
}

TEST(Sha256, GivesTheStandardsDigests) {
  const auto digest = [](const std::string& text) {
    Sha256 hash;
    hash.add(text);
    return hash.finish();
  };
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  Sha256 pieces;
  for (int i = 0; i < 1000; ++i) pieces.add(std::string(1000, 'a'));
  EXPECT_EQ(pieces.finish(), digest(std::string(1000000, 'a')));
}

TEST(Identity, TellsSamplesApart) {
  Sample sample;
  sample.context = "text";
  sample.answers = {"a", "b"};
  std::set<std::string> hashes = {sample_hash(sample)};
  EXPECT_EQ(hashes.begin()->size(), 16U);
  const auto add = [&](auto change) {
    Sample other = sample;
    change(other);
    EXPECT_TRUE(hashes.insert(sample_hash(other)).second);
  };
  add([](Sample& s) { s.context = "tex"; });
  add([](Sample& s) { s.context = "", s.question = "text"; });
  add([](Sample& s) { s.answers = {"ab"}; });
  add([](Sample& s) { s.answers = {"a"}, s.stop = {"b"}; });
  add([](Sample& s) { s.all_classes = {"c"}; });
  sample.id = "7";
  EXPECT_FALSE(hashes.insert(sample_hash(sample)).second) << "its name is of no account";
}

TEST(Identity, NamesModelAndCode) {
  EngineOptions engine;
  engine.model = std::string(FASTKV_SOURCE_DIR) + "/models/needle-v2-14m";
  const std::string hash = model_hash(engine);
  EXPECT_EQ(hash.size(), 64U);
  EXPECT_EQ(hash, model_hash(engine));
  engine.model = std::string(FASTKV_SOURCE_DIR) + "/tests/fixtures/tiny-llama";
  EXPECT_NE(hash, model_hash(engine));
  EXPECT_TRUE(code_version().starts_with("0.")) << code_version();
  engine.model = "/nowhere";
  test::expect_error([&] { model_hash(engine); }, {"/nowhere"});
}

}  // namespace
}  // namespace fastkv
