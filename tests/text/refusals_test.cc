// Every feature of tokenizer.json that is not supported is refused by name.

#include <gtest/gtest.h>

#include "support/test_data.h"
#include "text/expect_error.h"
#include "text/regex.h"
#include "text/tiny_tokenizer.h"
#include "text/tokenizer.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::expect_error;

/// Loads the tiny tokenizer with the value at `pointer` replaced and expects a sentence.
void expect_refusal(const std::string& pointer, const json& value, const std::string& part) {
  json file = test::tiny_byte_level();
  file[json::json_pointer(pointer)] = value;
  expect_error([&] { test::make(file); }, "tokenizer.json: ");
  expect_error([&] { test::make(file); }, part);
}

json typed(const char* type) { return {{"type", type}}; }
json pattern(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}

TEST(Refusals, Files) {
  const test::TemporaryDir dir;
  expect_error([&] { Tokenizer::load(dir.path()); }, "there is no tokenizer here");
  dir.write("tokenizer.model", "IQ== 0\n");
  expect_error([&] { Tokenizer::load(dir.path()); }, "the SentencePiece library cannot read this");
  dir.write("tokenizer.json", "{\"model\": ");
  expect_error([&] { Tokenizer::load(dir.path()); }, "this is not valid JSON");
  dir.write("tokenizer.json", "[]");
  expect_error([&] { Tokenizer::load(dir.path()); }, "a JSON object with a field \"model\"");
}

TEST(Refusals, Models) {
  expect_refusal("/model", nullptr, "field \"model\" is missing");
  expect_refusal("/model/type", "Unigram", "model \"Unigram\" is not supported");
  expect_refusal("/model/dropout", 0.1, "BPE dropout is not supported");
  expect_refusal("/model/continuing_subword_prefix", "##", "\"continuing_subword_prefix\"");
  expect_refusal("/model/end_of_word_suffix", "</w>", "\"end_of_word_suffix\"");
  expect_refusal("/model/unk_token", "<nope>", "unknown token \"<nope>\" is not in the vocabulary");
  expect_refusal("/model/merges", json::array({"a b c"}), "a merge must be");
  expect_refusal("/model/merges", json::array({3}), "a merge must be");
  expect_refusal("/model/merges", json::array({"h z"}), "a token that the vocabulary lacks");
  expect_refusal("/model/vocab/q2", "x", "must be an integer");
  expect_refusal("/model/vocab/q2", -1, "has the id -1");
  expect_refusal("/model/vocab/q2", 2000000000, "has the id 2000000000");
  expect_refusal("/model/vocab/q2", 65, "have the same id 65");
}

TEST(Refusals, AddedTokens) {
  expect_refusal("/added_tokens/0/id", "x", "field \"id\" must be an integer");
  expect_refusal("/added_tokens/0/content", "</s>", "has two ids");
  expect_refusal("/added_tokens/0/lstrip", 1, "\"lstrip\" must be true or false");
}

TEST(Refusals, Steps) {
  expect_refusal("/normalizer", typed("NFC"), "normalizer \"NFC\" is not supported");
  expect_refusal("/pre_tokenizer", typed("BertPreTokenizer"),
                 "pre-tokenizer \"BertPreTokenizer\" is not supported");
  expect_refusal("/pre_tokenizer",
                 {{"type", "Sequence"}, {"pretokenizers", {typed("ByteLevel"), typed("Digits")}}},
                 "pre-tokenizer Digits after ByteLevel is not supported");
  expect_refusal("/pre_tokenizer",
                 {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Odd"}},
                 "split behavior \"Odd\" is not known");
  expect_refusal("/pre_tokenizer",
                 {{"type", "Split"}, {"pattern", json::object()}, {"behavior", "Isolated"}},
                 "an object with \"Regex\" or \"String\"");
  expect_refusal("/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "last"}},
                 "always, first or never, but it is \"last\"");
  expect_refusal("/post_processor", typed("RobertaProcessing"),
                 "post-processor \"RobertaProcessing\" is not supported");
  expect_refusal(
      "/post_processor",
      {{"type", "TemplateProcessing"},
       {"single", {{{"Sequence", json::object()}}, {{"SpecialToken", {{"id", "</s>"}}}}}}},
      "puts </s> after the text");
  expect_refusal("/decoder", nullptr, "field \"decoder\" is missing");
  expect_refusal("/decoder", typed("WordPiece"), "decoder \"WordPiece\" is not supported");
  expect_refusal("/decoder",
                 {{"type", "Sequence"}, {"decoders", {typed("Fuse"), typed("ByteFallback")}}},
                 "decoder ByteFallback at this place");
  expect_refusal("/decoder", {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}},
                 "only right after Fuse");
}

TEST(Refusals, Patterns) {
  expect_refusal("/pre_tokenizer", pattern("a("), "cannot be compiled");
  expect_refusal("/pre_tokenizer", pattern("\\bfoo"), "uses \\b, which is not supported");
  expect_refusal("/pre_tokenizer", pattern("\\h"), "uses \\h");
  expect_refusal("/pre_tokenizer", pattern("[a[bc]]"), "a character class inside another");
  expect_refusal("/pre_tokenizer", pattern("[a-z&&b]"), "an intersection");
  expect_refusal("/pre_tokenizer", pattern("(?<n>a)"), "(?<n");
  expect_refusal("/pre_tokenizer", pattern("(*ACCEPT)"), "(*");
  expect_refusal("/pre_tokenizer", pattern("a{2,3}+"), "{...}+");
  expect_refusal("/pre_tokenizer", pattern("\\p{Klingon}"), "cannot be compiled");
}

TEST(Refusals, TextAndIds) {
  const Tokenizer t = test::make(test::tiny_byte_level());
  expect_error([&] { t.encode("ab\xff", Special::parse); }, "byte 0xFF at offset 2");
  expect_error([&] { t.decode(std::vector<std::int32_t>{263}, true); },
               "Token id 263 is outside the vocabulary: ids go from 0 to 262");
  expect_error([&] { t.token_bytes(-1); }, "Token id -1 is outside");
  json file = test::tiny_sentencepiece();
  file["model"].erase("unk_token");
  file["model"]["byte_fallback"] = false;
  expect_error([&] { test::make(file).encode("z", Special::parse); }, "no token for \"z\"");
}

TEST(Regex, MeansWhatOnigurumaMeans) {
  const auto matches = [](const char* pattern, std::string_view text) {
    const auto m = Regex(pattern, "test").find(text, 0);
    return m && m->begin == 0 && m->end == text.size();
  };
  EXPECT_TRUE(matches("(?i:'s)", "'S"));
  EXPECT_TRUE(matches("(?i:'s)", "'\u017f"));  // folds to s
  EXPECT_TRUE(matches("\\s", "\u0085"));
  EXPECT_FALSE(matches("\\s", "\u180e"));  // a space to PCRE2, not to Unicode
  EXPECT_TRUE(matches("[^\\S\\n]+", " \t"));
  EXPECT_TRUE(matches("\\S", "\u180e"));
  EXPECT_TRUE(matches("\\w+", "a\u0301_\u0663"));
  EXPECT_TRUE(matches("\\p{Han}", "\u4e2d"));
  EXPECT_FALSE(matches("\\p{Han}", "\u3001"));  // Han only by script extensions
  EXPECT_TRUE(matches("\\p{N}{,2}", "12"));
  EXPECT_TRUE(matches("\\u4e2d", "\u4e2d"));
  EXPECT_TRUE(matches("a$\nb", "a\nb"));
}

TEST(Regex, StopsBadPatterns) {
  const Regex bad("(a+)+$", "test");
  expect_error([&] { bad.find(std::string(60, 'a') + "b", 0); }, "cannot be matched");
}

}  // namespace
}  // namespace fastkv
