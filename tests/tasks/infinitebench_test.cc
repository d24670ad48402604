#include <nlohmann/json.hpp>

#include "core/json.h"
#include "support/expect_error.h"
#include "task_test.h"

namespace fastkv {
namespace {

using test::collect;
using Strings = std::vector<std::string>;

/// Rows of our own in InfiniteBench's format.
struct OwnData {
  test::TemporaryDir dir;

  test::Collected read(const std::string& task, const std::string& rows,
                       OptionValues options = {}) const {
    dir.write(task + ".jsonl", rows);
    options["data"] = dir.path().string();
    benchmark = make_benchmark("infinitebench", options);
    SampleRequest request;
    request.task = task;
    return collect(*benchmark, request);
  }
  mutable std::unique_ptr<Benchmark> benchmark;
};

TEST(InfiniteBench, FillsPrompts) {
  const OwnData data;
  const std::string row =
      R"({"id": 3, "context": "It is 71432 {input}.\n", "input": "What is the pass key?", "answer": ["71432"], "options": []})";
  auto all = data.read("passkey", row);
  ASSERT_EQ(all.samples.size(), 1U);
  const Sample chat = all.samples[0];
  EXPECT_EQ(chat.id, "3");
  EXPECT_EQ(chat.context,
            "There is an important info hidden inside a lot of irrelevant text. Find it and "
            "memorize them. I will quiz you about the important information there.\n\nIt is 71432 "
            "{input}.\n");
  EXPECT_EQ(chat.question, "\n\nWhat is the pass key?");
  EXPECT_EQ(chat.system, "You are a helpful assistant");
  EXPECT_TRUE(chat.chat);
  EXPECT_EQ(chat.max_new_tokens, 6);
  EXPECT_EQ(data.benchmark->score(chat, "It is 71432, I think"), 1.0);
  EXPECT_EQ(data.benchmark->score(chat, "1 or 71432"), 0.0);

  all = data.read("passkey", row, {{"prompts", "open"}});
  EXPECT_FALSE(all.samples[0].chat);
  EXPECT_EQ(all.samples[0].question, "\n\nWhat is the pass key?\n\nThe pass key is");
  EXPECT_EQ(all.samples[0].system, "");
}

TEST(InfiniteBench, TakesAnswersInAllForms) {
  const OwnData data;
  const auto answers = [&](const std::string& task, const std::string& answer,
                           const std::string& rest = "") {
    const auto all = data.read(
        task,
        R"({"id": 0, "context": "c", "input": "What is func_1(-2)? The largest number of", "answer": )" +
            answer + rest + "}");
    return all.samples.empty() ? Strings{all.issues.at(0).message} : all.samples[0].answers;
  };
  EXPECT_EQ(answers("code_run", "[24]"), Strings{"24"});
  EXPECT_EQ(answers("code_run", "-3"), Strings{"-3"});
  EXPECT_EQ(answers("code_run", "\"7\""), Strings{"7"});
  EXPECT_EQ(answers("math_find", "[48.0]"), Strings{"48.0"});
  EXPECT_EQ(answers("math_calc", "[[4, 8]]"), (Strings{"4", "8"}));
  EXPECT_EQ(answers("math_calc", "[4, 8]"), (Strings{"4", "8"}));
  const std::string options = R"(, "options": ["w", "x", "y", "z"])";
  EXPECT_EQ(answers("code_debug", "[\"y\"]", options), (Strings{"y", "C"}));
  EXPECT_EQ(answers("code_debug", "[\"y\", \"C\"]", options), (Strings{"y", "C"}));
  EXPECT_EQ(answers("code_debug", "[\"v\"]", options),
            Strings{"the row's answer is none of its options."});
  EXPECT_EQ(answers("code_debug", "[\"y\"]", R"(, "options": ["y"])"),
            Strings{"the row's \"options\" must be 4, not 1."});
  EXPECT_EQ(answers("longbook_qa_eng", "{}"),
            Strings{"the row's \"answer\" must be a text, a number, or a list of these."});
}

TEST(InfiniteBench, AsksForFunctionsAndNumbers) {
  const OwnData data;
  auto all = data.read(
      "code_run",
      R"({"id": 0, "context": "def func_1(x):", "input": "Give me func_1(-2), please", "answer": [3]})"
      "\n"
      R"({"id": 1, "context": "c", "input": "nothing", "answer": [3]})",
      {{"prompts", "open"}});
  ASSERT_EQ(all.samples.size(), 1U);
  ASSERT_EQ(all.issues.size(), 1U);
  EXPECT_EQ(all.issues[0].line, 2);
  EXPECT_TRUE(all.samples[0].context.starts_with("There is a function called func_1 in the"));
  EXPECT_EQ(all.samples[0].question,
            "\n\nPlease compute the exact value of func_1(-2). The value of func_1(-2) is");
  EXPECT_EQ(data.benchmark->score(all.samples[0], " 3."), 1.0);

  all = data.read(
      "math_find",
      R"({"id": 0, "content": "[3, 17]", "input": "Only one number. The second largest number of the list is: ", "answer": [3]})");
  ASSERT_EQ(all.samples.size(), 1U);
  EXPECT_EQ(all.samples[0].context,
            "What is the second largest number in the following list?\n\n[3, 17]");
  EXPECT_EQ(data.benchmark->score(all.samples[0], "3"), 1.0);
}

TEST(InfiniteBench, FindsWhatIsAskedInInputsOfAnyForm) {
  const OwnData data;
  const auto asked = [&](const std::string& task, const std::string& input) {
    const Json row = {{"id", 0}, {"context", "c"}, {"input", input}, {"answer", {3}}};
    const auto all = data.read(task, row.dump(), {{"prompts", "open"}});
    if (all.samples.empty()) return all.issues.at(0).message;
    const std::string prompt = test::prompt_of(all.samples[0]);
    const std::string begin = task == "code_run" ? "exact value of " : "What is ";
    const std::string end = task == "code_run" ? ". The" : " in the";
    const auto from = prompt.find(begin) + begin.size();
    return prompt.substr(from, prompt.find(end, from) - from);
  };
  const std::string no_call = "the row's input has no call of a function.";
  EXPECT_EQ(asked("code_run", "func_(1) func_2 func_3() func_4(-) func_5(6 func_78(90)"),
            "func_78(90)");
  EXPECT_EQ(asked("code_run", "func_func_1(-23) func_4(5)"), "func_1(-23)");
  for (const char* input : {"", "func_", "func_1", "func_1(", "func_1(-", "func_1(2"}) {
    EXPECT_EQ(asked("code_run", input), no_call) << input;
  }
  const std::string no_number = "the row's input does not say which number of the list is wanted.";
  EXPECT_EQ(asked("math_find", "The end.\nThe last of all of it"), "the last of all");
  EXPECT_EQ(asked("math_find", "of The\nThe  of\nThe x of\n"), "the x");
  for (const char* input : {"", "The ", "The  of", "one of The ", "The least\n of"}) {
    EXPECT_EQ(asked("math_find", input), no_number) << input;
  }
  // Lines longer than a stack.
  const std::string many(1'000'000, '1');
  EXPECT_EQ(asked("code_run", "func_" + many + "(2)"), "func_" + many + "(2)");
  EXPECT_EQ(asked("math_find", "The " + many), no_number);
}

TEST(InfiniteBench, ScorersAndAverages) {
  const OwnData data;
  const std::string row = R"({"id": 0, "context": "{}", "input": "k", "answer": ["a-1"]})";
  auto all = data.read("kv_retrieval", row);
  EXPECT_EQ(data.benchmark->score(all.samples[0], "a-1"), 1.0);
  all = data.read("kv_retrieval", row, {{"scorer", "v1"}});
  EXPECT_EQ(data.benchmark->score(all.samples[0], "a-1"), 0.0) << "a list was never right";
  all = data.read("kv_retrieval", R"({"id": 0, "context": "{}", "input": "k", "answer": "a-1"})",
                  {{"scorer", "v1"}});
  EXPECT_EQ(data.benchmark->score(all.samples[0], "a-1"), 1.0);
  EXPECT_EQ(data.benchmark->tasks().size(), 12U);
  const auto averages = data.benchmark->averages({{"passkey", 100.0}, {"code_run", 25.0}});
  EXPECT_EQ(averages.at(0).label, "mean of 2 of 12 tasks");
  EXPECT_EQ(averages.at(0).value, 62.5);
  test::expect_error(
      [] {
        SampleRequest request;
        request.task = "passkey";
        collect(*make_benchmark("infinitebench", {}), request);
      },
      {"--data", "InfiniteBench"});
}

TEST(Benchmarks, TheTableIsComplete) {
  std::vector<std::string> names;
  for (const BenchmarkInfo& info : list_benchmarks()) {
    names.push_back(info.name);
    EXPECT_FALSE(info.summary.empty());
    EXPECT_FALSE(info.options.empty());
    const auto benchmark = make_benchmark(info.name, {});
    EXPECT_EQ(benchmark->name(), info.name);
    for (const TaskInfo& task : benchmark->tasks()) {
      EXPECT_EQ(find_task(*benchmark, task.name).metric, task.metric);
      EXPECT_FALSE(task.metric.empty());
    }
    test::expect_error([&] { find_task(*benchmark, "none"); },
                       {info.name, "none", benchmark->tasks().back().name});
  }
  EXPECT_EQ(names, (Strings{"needle", "ruler", "longbench", "longbench-e", "infinitebench"}));
}

}  // namespace
}  // namespace fastkv
