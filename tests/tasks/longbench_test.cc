#include <cmath>

#include "support/expect_error.h"
#include "task_test.h"
#include "tasks/template.h"

namespace fastkv {
namespace {

using test::collect;

TEST(Template, FillsOnceAndCutsAfterTheContext) {
  const auto filled = fill_template("A {context}\n{input} {other} {\"a\": {input}}",
                                    {{"context", "{input} x"}, {"input", "{context}"}});
  EXPECT_EQ(filled.context, "A {input} x") << "fields are not filled again";
  EXPECT_EQ(filled.question, "\n{context} {other} {\"a\": {context}}");
  test::expect_error([] { fill_template("{input}", {{"input", "x"}}); }, {"{context}"});
}

/// A data set of our own in LongBench's format.
struct OwnData {
  test::TemporaryDir dir;
  OwnData() {
    dir.write(
        "dataset2prompt.json",
        R"({"qasper": "Article: {context}\nAsk: {input}\nAnswer:", "trec": "{context}\n{input}"})");
    dir.write("dataset2maxlen.json", R"({"qasper": 12, "trec": 7})");
    const std::string rows =
        R"({"input": "who?", "context": "A text {input}.", "answers": ["Bob", "a man"], "length": 3900, "dataset": "qasper", "language": "en", "all_classes": null, "_id": "q1"})"
        "\n"
        R"({"input": "who?", "context": "No answers.", "answers": [], "length": 1, "_id": "q2"})"
        "\n"
        R"({"input": "what?", "context": "B", "answers": ["tea"], "length": 9000, "all_classes": null, "_id": "q3"})"
        "\n";
    dir.write("qasper.jsonl", rows);
    dir.write("qasper_e.jsonl", rows);
    dir.write(
        "trec.jsonl",
        R"({"input": "Q", "context": "C", "answers": ["Food"], "length": 5, "all_classes": ["Food", "Date"], "_id": "t"})");
  }
  OptionValues options() const { return {{"data", dir.path().string()}}; }
};

TEST(LongBench, FillsPromptsOfItsFiles) {
  const OwnData data;
  const auto longbench = make_benchmark("longbench", data.options());
  EXPECT_EQ(longbench->tasks().size(), 21U);
  SampleRequest request;
  request.task = "qasper";
  auto all = collect(*longbench, request);
  ASSERT_EQ(all.samples.size(), 2U);
  ASSERT_EQ(all.issues.size(), 1U);
  EXPECT_EQ(all.issues[0].line, 2);
  EXPECT_EQ(all.samples[0].context, "Article: A text {input}.");
  EXPECT_EQ(all.samples[0].question, "\nAsk: who?\nAnswer:");
  EXPECT_EQ(all.samples[0].id, "q1");
  EXPECT_EQ(all.samples[0].length, 3900);
  EXPECT_EQ(all.samples[0].max_new_tokens, 12);
  EXPECT_TRUE(all.samples[0].chat);
  EXPECT_EQ(longbench->score(all.samples[0], "the Bob"), 1.0);

  request.task = "trec";
  all = collect(*longbench, request);
  ASSERT_EQ(all.samples.size(), 1U);
  EXPECT_FALSE(all.samples[0].chat) << "its prompt is a list of examples to go on with";
  EXPECT_EQ(all.samples[0].all_classes, (std::vector<std::string>{"Food", "Date"}));
  EXPECT_EQ(longbench->score(all.samples[0], "\nFood\nDate"), 1.0) << "the first line counts";
  EXPECT_EQ(longbench->score(all.samples[0], "Food or Date"), 0.5);
}

TEST(LongBench, EIsReportedByLength) {
  const OwnData data;
  const auto longbench = make_benchmark("longbench-e", data.options());
  EXPECT_EQ(longbench->tasks().size(), 13U);
  SampleRequest request;
  request.task = "qasper_e";
  const auto all = collect(*longbench, request);
  ASSERT_EQ(all.samples.size(), 2U);
  std::vector<Scored> scored;
  for (const Sample& sample : all.samples) {
    scored.push_back({longbench->score(sample, "Bob"), sample.length});
  }
  const auto figures = longbench->task_figures(scored);
  ASSERT_EQ(figures.size(), 3U);
  EXPECT_EQ(figures[0].value, 50.0);
  EXPECT_EQ(figures[1].label, "0-4k");
  EXPECT_EQ(figures[1].value, 100.0);
  EXPECT_EQ(figures[1].count, 1);
  EXPECT_EQ(figures[2].label, "8k+");
  EXPECT_EQ(figures[2].value, 0.0);
  const auto averages = longbench->averages({{"qasper_e", 50.0}, {"trec_e", 60.0}});
  ASSERT_EQ(averages.size(), 1U);
  EXPECT_EQ(averages[0].label, "mean over data sets (2 of 13)");
  EXPECT_EQ(averages[0].value, 55.0);
}

TEST(LongBench, SaysWhatIsMissing) {
  SampleRequest request;
  request.task = "qasper";
  test::expect_error([&] { collect(*make_benchmark("longbench", {}), request); },
                     {"--data", "THUDM/LongBench"});
  const OwnData data;
  request.task = "lcc";
  test::expect_error([&] { collect(*make_benchmark("longbench", data.options()), request); },
                     {"dataset2prompt.json", "lcc"});
  std::filesystem::remove(data.dir.path() / "qasper.jsonl");
  request.task = "qasper";
  test::expect_error([&] { collect(*make_benchmark("longbench", data.options()), request); },
                     {"qasper.jsonl"});
}

TEST(LongBenchReference, AllDataSetsFillAndScore) {
  FASTKV_NEEDS_DATA("longbench/dataset2prompt.json");
  const auto longbench =
      make_benchmark("longbench", {{"data", (test::data_dir() / "longbench").string()},
                                   {"jieba", (test::data_dir() / "jieba").string()}});
  const auto templates =
      nlohmann::json::parse(test::read_file(test::data_dir() / "longbench/dataset2prompt.json"));
  std::map<std::string, double> scores;
  std::size_t raw = 0;
  for (const TaskInfo& task : longbench->tasks()) {
    SampleRequest request;
    request.task = task.name;
    const auto all = collect(*longbench, request);
    EXPECT_TRUE(all.issues.empty()) << task.name << ": " << to_string(all.issues.at(0));
    EXPECT_FALSE(all.samples.empty()) << task.name;
    const std::string begin = templates[task.name].get<std::string>();
    std::vector<Scored> scored;
    for (const Sample& sample : all.samples) {
      EXPECT_TRUE(sample.context.starts_with(begin.substr(0, begin.find("{context}"))));
      EXPECT_EQ(sample.question.find("{input}"), std::string::npos);
      EXPECT_GE(sample.max_new_tokens, 32);
      // Scored by the answer itself, which only ROUGE holds for not quite perfect.
      scored.push_back({longbench->score(sample, sample.answers[0]), sample.length});
      EXPECT_GT(scored.back().score, 0.99) << task.name << " " << sample.answers[0];
    }
    raw += all.samples[0].chat ? 0 : 1;
    scores[task.name] = longbench->task_figures(scored).at(0).value;
  }
  EXPECT_EQ(raw, 6U);
  bool found = false;
  for (const Figure& figure : longbench->averages(scores)) {
    found |= figure.count == 16;
    EXPECT_GT(figure.value, 99.0) << figure.label;
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace fastkv
