#include "tasks/sentences.h"

#include "support/test_data.h"
#include "tasks/own_text.h"

namespace fastkv {
namespace {

using Sentences = std::vector<std::string>;

TEST(Sentences, SplitsWithoutParameters) {
  const SentenceSplitter splitter;
  EXPECT_EQ(splitter.split("Mr. Vogel left at 3.30. Did he? \"Yes!\" He went... e.g. home."),
            (Sentences{"Mr. Vogel left at 3.30.", "Did he?", "\"Yes!\"", "He went... e.g. home."}));
  EXPECT_EQ(splitter.split("One (two.) Three"), (Sentences{"One (two.)", "Three"}));
  EXPECT_EQ(splitter.split("No end"), (Sentences{"No end"}));
  EXPECT_TRUE(splitter.split("").empty());
}

TEST(Sentences, LosesNothingOfTheOwnText) {
  const std::string text = own_prose().substr(0, 50'000);
  std::string joined;
  for (const std::string& sentence : SentenceSplitter().split(text)) joined += sentence;
  std::string expected;
  std::string found;
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c))) expected += c;
  }
  for (const char c : joined) {
    if (!std::isspace(static_cast<unsigned char>(c))) found += c;
  }
  EXPECT_EQ(found, expected);
}

TEST(Sentences, EqualsNltk) {
  FASTKV_NEEDS_DATA("ruler/sentence_split_golden.jsonl");
  const auto dir = test::data_dir() / "ruler";
  const SentenceSplitter splitter = SentenceSplitter::load(dir / "punkt_english.json");
  for (const auto& row : test::read_jsonl(dir / "sentence_split_golden.jsonl")) {
    EXPECT_EQ(splitter.split(row["text"].get<std::string>()), row["sentences"].get<Sentences>())
        << row["text"].get<std::string>().substr(0, 300);
  }
}

TEST(OwnText, IsLongAndHidesNothing) {
  EXPECT_GE(own_prose().size(), 300'000U);
  EXPECT_EQ(own_prose().find("magic"), std::string::npos);
  EXPECT_EQ(own_prose().find('{'), std::string::npos) << "all of the grammar is filled in";
}

}  // namespace
}  // namespace fastkv
