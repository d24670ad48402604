#include <cmath>
#include <set>

#include "support/expect_error.h"
#include "task_test.h"
#include "tasks/own_text.h"

namespace fastkv {
namespace {

using test::collect;

constexpr const char* sandwich =
    "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny "
    "day.\n";

SampleRequest at(std::int64_t context) {
  SampleRequest request;
  request.task = "needle";
  request.context = context;
  return request;
}

TEST(Needle, GoesToTheEndOfASentenceNearItsDepth) {
  const Codec& codec = test::bundled_codec();
  const auto needle =
      make_benchmark("needle", {{"context", "1000,3000"}, {"depths", "0,33,50,100"}});
  EXPECT_EQ(needle->contexts(), (std::vector<std::int64_t>{1000, 3000}));
  for (const std::int64_t context : needle->contexts()) {
    const auto all = collect(*needle, at(context));
    ASSERT_EQ(all.samples.size(), 4U);
    for (const Sample& sample : all.samples) {
      const double depth = sample.attributes.at("depth");
      SCOPED_TRACE(sample.id);
      EXPECT_EQ(sample.id, std::to_string(context) + "-" + std::to_string(std::lround(depth)));
      EXPECT_EQ(sample.attributes.at("context"), static_cast<double>(context));
      EXPECT_EQ(sample.question,
                " </book>.\n Based on the content of the book, Question: The best thing to do in "
                "San Francisco is: \nAnswer:");
      EXPECT_EQ(sample.stop, std::vector<std::string>{"\n"});
      EXPECT_EQ(sample.max_new_tokens, 30);

      const std::string begin = "<|im_start|> This is a very long story book: <book> ";
      ASSERT_TRUE(sample.context.starts_with(begin));
      const std::string book = sample.context.substr(begin.size());
      const auto place = book.find(sandwich);
      ASSERT_NE(place, std::string::npos);
      EXPECT_EQ(test::count_of(book, "San Francisco"), 1U);
      if (depth == 0) {
        EXPECT_EQ(place, 0U);
      } else if (depth == 100) {
        EXPECT_EQ(place + std::string(sandwich).size(), book.size());
      } else {
        EXPECT_EQ(book[place - 1], '.');
      }
      const auto before = static_cast<double>(codec.count(book.substr(0, place)));
      const auto hay = static_cast<double>(codec.count(book) - codec.count(sandwich));
      EXPECT_LE(before, hay * depth / 100.0 + 1.0);
      EXPECT_GE(before, hay * depth / 100.0 - 80.0) << "a sentence back at most";
      EXPECT_NEAR(static_cast<double>(codec.count(book)), static_cast<double>(context - 200), 3.0);
      EXPECT_LE(codec.count(test::prompt_of(sample)) + sample.max_new_tokens, context);
    }
  }
}

TEST(Needle, HaystackNeedleAndAnswerCanBeChosen) {
  const test::TemporaryDir dir;
  dir.write("b.txt", "Second file. ");
  dir.write("a.txt", "First file. ");
  dir.write("c.md", "No text.");
  const auto needle = make_benchmark("needle", {{"context", "600"},
                                                {"depths", "50"},
                                                {"haystack", dir.path().string()},
                                                {"needle", "The key is 4711."},
                                                {"question", "Which key?"},
                                                {"answer", "4711"},
                                                {"prompt", "plain"}});
  const auto all = collect(*needle, at(600));
  ASSERT_EQ(all.samples.size(), 1U);
  const Sample& sample = all.samples[0];
  EXPECT_TRUE(sample.context.starts_with("First file. Second file. First file. "))
      << "repeated until long enough";
  EXPECT_NE(sample.context.find(".\nThe key is 4711.\n"), std::string::npos);
  EXPECT_EQ(sample.question, "\nWhich key?");
  EXPECT_EQ(needle->score(sample, "It is 4711, I think"), 1.0);
  EXPECT_EQ(needle->score(sample, "It is 4712"), 0.0);
}

TEST(Needle, IsScoredByItsWords) {
  const auto needle = make_benchmark("needle", {});
  const Sample sample;
  EXPECT_EQ(needle->score(sample, sandwich), 1.0);
  EXPECT_EQ(needle->score(sample, ""), 0.0);
  const double half = needle->score(sample, "eat a sandwich");
  EXPECT_GT(half, 0.0);
  EXPECT_LT(half, 1.0);
  const std::vector<Scored> scored = {{1.0, 0}, {0.5, 0}, {0.5, 0}};
  EXPECT_EQ(needle->task_figures(scored).at(0).value, 66.67);
}

TEST(Needle, RefusesWhatItCannotDo) {
  const test::TemporaryDir empty;
  test::expect_error(
      [&] {
        collect(*make_benchmark("needle", {{"haystack", empty.path().string()}}), at(1000));
      },
      {".txt"});
  test::expect_error([&] { collect(*make_benchmark("needle", {}), at(150)); },
                     {"150", "no room for a needle"});
  test::expect_error(
      [] {
        make_benchmark("needle", {{"depths", "0,101"}});
      },
      {"--depths", "from 0 to 100", "'101'"});
  test::expect_error([] { make_benchmark("needle", {{"depth", "0"}}); }, {"depth", "needle"});
}

TEST(Needle, SkipsAndLimits) {
  const auto needle = make_benchmark("needle", {{"context", "1000"}, {"depths", "0,50,100"}});
  SampleRequest request = at(1000);
  request.limit = 2;
  request.skip = [](const std::string& id) { return id == "1000-0"; };
  const auto all = collect(*needle, request);
  ASSERT_EQ(all.samples.size(), 1U);
  EXPECT_EQ(all.samples[0].id, "1000-50");
}

}  // namespace
}  // namespace fastkv
