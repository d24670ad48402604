#include "eval/prompt.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "eval/reference.h"

namespace fastkv {
namespace {

const Text& bundled_text() {
  static const Text text(std::string(FASTKV_SOURCE_DIR) + "/models/needle-v2-14m");
  return text;
}

Sample sample() {
  Sample s;
  s.context = "\nThe ferry left at nine. The special magic number for old-dog is: 4711123.";
  s.question = "\nWhat is the special magic number for old-dog? ";
  s.answer_prefix = " The number is";
  s.max_new_tokens = 16;
  return s;
}

std::vector<TokenId> whole(const Prompt& prompt) {
  std::vector<TokenId> ids = prompt.ids;
  ids.insert(ids.end(), prompt.later.begin(), prompt.later.end());
  return ids;
}

std::string said(const std::vector<TokenId>& ids) { return bundled_text().decode(ids, false); }

TokenId bos() { return bundled_text().encode("").at(0); }

std::size_t bos_count(const Prompt& prompt) {
  const std::vector<TokenId> ids = whole(prompt);
  return static_cast<std::size_t>(std::count(ids.begin(), ids.end(), bos()));
}

constexpr PromptLimits roomy{0, 32768};

TEST(Prompt, QueryAwareIsTheRenderedChatWithOneBos) {
  const Prompt prompt = make_prompt(sample(), bundled_text(), Protocol::query_aware, roomy);
  EXPECT_TRUE(prompt.later.empty());
  EXPECT_FALSE(prompt.truncated);
  EXPECT_EQ(bos_count(prompt), 1U);
  const std::string text = said(prompt.ids);
  EXPECT_TRUE(text.ends_with("assistant<|end_header_id|>\n\n The number is")) << text;
}

TEST(Prompt, QueryAgnosticHasTheSameTokensInTwoParts) {
  for (const bool chat : {true, false}) {
    for (const char* border : {"\nWhat is", " What is", "What is", "23. What is"}) {
      Sample s = sample();
      s.chat = chat;
      s.question = border;
      s.question += " the number? ";
      const Prompt aware = make_prompt(s, bundled_text(), Protocol::query_aware, roomy);
      const Prompt agnostic = make_prompt(s, bundled_text(), Protocol::query_agnostic, roomy);
      EXPECT_EQ(whole(agnostic), aware.ids) << border;
      EXPECT_EQ(bos_count(agnostic), 1U);
      const std::string first = said(agnostic.ids);
      const std::string second = said(agnostic.later);
      EXPECT_EQ(first.find("What"), std::string::npos) << first;
      EXPECT_NE(second.find("What is the number?"), std::string::npos) << second;
      // At most one token of the context is with the question.
      const std::string context = s.context.substr(1);
      EXPECT_NE(first.find(context.substr(0, context.size() - 8)), std::string::npos) << first;
    }
  }
}

TEST(Prompt, QuestionThatIsAlsoInTheContextIsSplitAtItsLastPlace) {
  Sample s = sample();
  s.context += s.question + " and on." + s.context + s.question + " and on.";
  const Prompt prompt = make_prompt(s, bundled_text(), Protocol::query_agnostic, roomy);
  EXPECT_NE(said(prompt.ids).find("and on"), std::string::npos);
  EXPECT_EQ(said(prompt.later).find("and on"), std::string::npos) << said(prompt.later);
}

TEST(Prompt, ReferenceHasTwoBosInChatsAndOneElsewhere) {
  Sample s = sample();
  EXPECT_EQ(bos_count(make_prompt(s, bundled_text(), Protocol::reference, roomy)), 2U);
  s.chat = false;
  EXPECT_EQ(bos_count(make_prompt(s, bundled_text(), Protocol::reference, roomy)), 1U);
}

TEST(Prompt, ReferenceRulesFollowTheModelsPath) {
  const auto rules = [](const char* path, const char* benchmark = "needle") {
    return reference_rules(benchmark, path, bundled_text());
  };
  EXPECT_EQ(rules("models/needle").prompt_tokens, 0);
  EXPECT_EQ(rules("Llama-2-7b-hf").prompt_tokens, 3950);
  EXPECT_EQ(rules("x/Meta-Llama-3-8B-Instruct").prompt_tokens, 7950);
  EXPECT_EQ(rules("x/Meta-Llama-3.1-8B-Instruct").prompt_tokens, 127500);
  EXPECT_EQ(rules("Ministral-8B-Instruct-2410").prompt_tokens, 127500);
  EXPECT_TRUE(rules("x/Meta-Llama-3.1-8B-Instruct").plain);
  EXPECT_FALSE(rules("x/Meta-Llama-3.1-8B-Instruct", "longbench").plain);
  EXPECT_FALSE(rules("Mistral-Nemo-Instruct-2407").plain);
  EXPECT_EQ(rules("x", "ruler").answer_tokens, 64);
  EXPECT_EQ(rules("x").answer_tokens, 0);
  EXPECT_EQ(rules("x").end_ids, bundled_text().encode("<|eot_id|>", /*bos=*/false));
}

Sample long_sample() {
  Sample s = sample();
  const std::string line = s.context;
  for (int i = 0; i < 100; ++i) s.context += line;
  return s;
}

TEST(Prompt, CutsTheMiddleOfTheTextToItsLimit) {
  const Codec codec = make_codec(bundled_text());
  const Prompt prompt = make_prompt(long_sample(), bundled_text(), Protocol::query_agnostic,
                                    {.text = 200, .whole = 32768});
  EXPECT_TRUE(prompt.truncated);
  const auto size = static_cast<std::int64_t>(whole(prompt).size());
  const std::int64_t around = codec.template_tokens + codec.count(sample().answer_prefix);
  EXPECT_NEAR(static_cast<double>(size), 200.0 + static_cast<double>(around), 4.0);
  EXPECT_NE(said(prompt.later).find("What is the special"), std::string::npos);
  EXPECT_NE(said(prompt.ids).find("The ferry left at nine"), std::string::npos);
}

TEST(Prompt, NeverGrowsBeyondTheModel) {
  for (const std::int64_t room : {100, 101, 150, 333}) {
    for (const Protocol protocol :
         {Protocol::query_aware, Protocol::query_agnostic, Protocol::reference}) {
      const Prompt prompt =
          make_prompt(long_sample(), bundled_text(), protocol, {.text = 0, .whole = room});
      EXPECT_TRUE(prompt.truncated);
      EXPECT_LE(static_cast<std::int64_t>(whole(prompt).size()), room);
      EXPECT_GT(static_cast<std::int64_t>(whole(prompt).size()), room - 20);
    }
  }
}

TEST(Prompt, ReferenceCutsTheRenderedPromptAndLosesItsSpecialTokens) {
  const Prompt prompt = make_prompt(long_sample(), bundled_text(), Protocol::reference,
                                    {.text = 200, .whole = 32768});
  // 200 less the template's six special tokens.
  EXPECT_NEAR(static_cast<double>(prompt.ids.size()), 194.0, 4.0);
  EXPECT_EQ(bos_count(prompt), 1U);
  EXPECT_EQ(said(prompt.ids).find("<|eot_id|>"), std::string::npos);
}

}  // namespace
}  // namespace fastkv
