#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "support/expect_error.h"
#include "task_test.h"
#include "tasks/ruler_prompts.h"

namespace fastkv {
namespace {

using test::collect;
using test::count_of;
using Strings = std::vector<std::string>;

// What a prompt of each task must look like. The same checks run on the reference's samples, so
// that they say what is true of these, and on those made here.

constexpr const char* noise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

Strings lines_of(const std::string& text) {
  std::istringstream stream(text);
  Strings lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Strings all_matches(const std::string& text, const std::string& pattern) {
  const std::regex wanted(pattern);
  Strings found;
  for (std::sregex_iterator it(text.begin(), text.end(), wanted), end; it != end; ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

void check_niah(const Sample& sample) {
  const bool uuid_values = sample.task == "niah_single_3" || sample.task == "niah_multikey_3";
  const bool uuid_keys = sample.task == "niah_multikey_3";
  const bool several = sample.task == "niah_multivalue" || sample.task == "niah_multiquery";
  const std::string things = uuid_values ? "uuids" : "numbers";
  const std::string uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
  const std::string value = uuid_values ? uuid : "[1-9][0-9]{6}";
  const std::string key = uuid_keys ? uuid : "[^:]+?";

  EXPECT_TRUE(sample.context.starts_with(
      several ? "Some special magic numbers are hidden within the following text. Make sure to "
                "memorize it. I will quiz you about the numbers afterwards.\n"
              : "A special magic " + things.substr(0, things.size() - 1) +
                    " is hidden within the following text. Make sure to memorize it. I will quiz "
                    "you about the " +
                    things.substr(0, things.size() - 1) + " afterwards.\n"));
  // Needles, and the values of the keys in question in their order.
  const std::regex needle("One of the special magic " + things + " for (" + key + ") is: (" +
                          value + ")\\.");
  std::map<std::string, Strings> values;
  std::size_t needles = 0;
  for (std::sregex_iterator it(sample.context.begin(), sample.context.end(), needle), end;
       it != end; ++it, ++needles) {
    values[(*it)[1]].push_back((*it)[2]);
  }
  EXPECT_EQ(needles, count_of(sample.context, "One of the special magic ")) << "all of one form";
  const std::string body =
      several ? "\nWhat are all the special magic " + things + " for (.*)"
              : "\nWhat is the special magic " + things.substr(0, things.size() - 1) + " for (.*)";
  std::smatch asked;
  ASSERT_TRUE(std::regex_match(sample.question, asked,
                               std::regex(body + " mentioned in the provided text\\?")))
      << sample.question;
  const std::string query = asked[1];
  EXPECT_EQ(sample.answer_prefix,
            " The special magic " + (several ? things : things.substr(0, things.size() - 1)) +
                " for " + query + " mentioned in the provided text " + (several ? "are" : "is"));
  Strings keys;
  if (sample.task == "niah_multiquery") {
    keys = all_matches(query + ", ", "(?:and )?(.+?), ");
    ASSERT_EQ(keys.size(), 4U) << query;
    EXPECT_TRUE(query.ends_with(", and " + keys.back()));
  } else {
    keys = {query};
  }
  Strings expected;
  for (const std::string& k : keys) {
    ASSERT_TRUE(values.contains(k)) << k;
    expected.insert(expected.end(), values[k].begin(), values[k].end());
  }
  Strings answers = sample.answers;
  if (sample.task == "niah_multivalue") {  // needles are shuffled
    std::sort(answers.begin(), answers.end());
    std::sort(expected.begin(), expected.end());
  }
  EXPECT_EQ(answers, expected);
  EXPECT_EQ(answers.size(), several ? 4U : 1U);

  const Strings lines = lines_of(sample.context);
  if (sample.task == "niah_single_1") {
    EXPECT_EQ(needles, 1U);
    EXPECT_EQ(static_cast<std::size_t>(std::count(lines.begin(), lines.end(), noise)),
              lines.size() - 2);
  } else if (sample.task == "niah_multikey_2" || sample.task == "niah_multikey_3") {
    EXPECT_EQ(needles, lines.size() - 1);
    EXPECT_GT(needles, 5U);
  } else {
    EXPECT_EQ(needles, several || sample.task == "niah_multikey_1" ? 4U : 1U);
    EXPECT_EQ(lines.size(), 2U) << "essays have no line breaks";
  }
}

void check_vt(const Sample& sample) {
  const auto second = sample.context.rfind("Memorize and track the chain(s)");
  ASSERT_GT(second, 0U);
  const auto check_chain = [](const std::string& text, const Strings& names, std::size_t letters) {
    std::string value;
    std::size_t found = 0;
    for (const std::string& line : lines_of(text)) {
      std::smatch match;
      if (std::regex_match(line, match, std::regex("VAR ([A-Z]+) = (\\d{5})"))) {
        ASSERT_EQ(found, 0U);
        EXPECT_EQ(match[1], names[0]);
        value = match[2];
        ++found;
      } else if (std::regex_match(line, match, std::regex("VAR ([A-Z]+) = VAR ([A-Z]+) "))) {
        ASSERT_LT(found, names.size());
        ASSERT_GT(found, 0U);
        EXPECT_EQ(match[1], names[found]);
        EXPECT_EQ(match[2], names[found - 1]);
        ++found;
      } else if (line.starts_with("VAR")) {
        ADD_FAILURE() << line;
      }
    }
    EXPECT_EQ(found, 5U);
    for (const std::string& name : names) EXPECT_EQ(name.size(), letters);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 5U);
    const std::string question =
        "Question: Find all variables that are assigned the value " + value + " in the text above.";
    const std::string prefix =
        " Answer: According to the chain(s) of variable assignment in the text above, 5 variables "
        "are assigned the value " +
        value + ", they are: ";
    EXPECT_NE(text.find("\n" + question + prefix), std::string::npos)
        << text.substr(text.size() - 300);
  };
  ASSERT_EQ(sample.answers.size(), 5U);
  check_chain(sample.context.substr(second) + sample.question + sample.answer_prefix,
              sample.answers, 5);
  const std::string example = sample.context.substr(0, second);
  std::smatch names;
  ASSERT_TRUE(std::regex_search(
      example, names, std::regex("they are:  ([A-Z]+) ([A-Z]+) ([A-Z]+) ([A-Z]+) ([A-Z]+)\n\n$")));
  check_chain(example, Strings(names.begin() + 1, names.end()), 3);
}

std::map<std::string, int> check_numbered(const std::string& list) {
  std::map<std::string, int> times;
  int expected = 1;
  std::string rest = list;
  const std::regex item("(\\d+)\\. (.*?)(?= \\d+\\. |$)");
  for (std::sregex_iterator it(rest.begin(), rest.end(), item), end; it != end; ++it) {
    EXPECT_EQ((*it)[1], std::to_string(expected++));
    ++times[(*it)[2]];
  }
  return times;
}

void check_cwe(const Sample& sample, bool short_context) {
  const std::string begin =
      "Below is a numbered list of words. In these words, some appear more often than others. "
      "Memorize the ones that appear most often.\n";
  const auto second = sample.context.rfind(begin);
  ASSERT_GT(second, 0U);
  const auto check_list = [](const std::string& list, const Strings& answers, int often,
                             int seldom) {
    ASSERT_EQ(answers.size(), 10U);
    for (const auto& [word, times] : check_numbered(list)) {
      const bool answer = std::find(answers.begin(), answers.end(), word) != answers.end();
      ASSERT_EQ(times, answer ? often : seldom) << word;
    }
  };
  check_list(sample.context.substr(second + begin.size()), sample.answers, short_context ? 6 : 30,
             short_context ? 1 : 3);
  EXPECT_EQ(sample.question, "\nQuestion: What are the 10 most common words in the above list?");
  EXPECT_EQ(sample.answer_prefix,
            " Answer: The top 10 words that appear most often in the list are:");
  const std::string example = sample.context.substr(0, second);
  ASSERT_TRUE(example.starts_with(begin));
  const auto question = example.find(sample.question);
  ASSERT_NE(question, std::string::npos);
  const std::string answer = example.substr(question);
  const std::string given = sample.question + sample.answer_prefix + " ";
  ASSERT_TRUE(answer.starts_with(given) && answer.ends_with("\n"));
  Strings answers;
  for (const auto& [word, times] :
       check_numbered(answer.substr(given.size(), answer.size() - given.size() - 1))) {
    answers.push_back(word);
  }
  check_list(example.substr(begin.size(), question - begin.size()), answers, short_context ? 3 : 10,
             short_context ? 1 : 3);
}

void check_fwe(const Sample& sample) {
  const std::string begin =
      "Read the following coded text and track the frequency of each coded word. Find the three "
      "most frequently appeared coded words. ";
  ASSERT_TRUE(sample.context.starts_with(begin));
  std::istringstream stream(sample.context.substr(begin.size()));
  std::map<std::string, int> times;
  int total = 0;
  for (std::string word; stream >> word; ++total) ++times[word];
  // Rank r occurs floor(N 6 / (pi r)^2) times; N follows from rank 1.
  const double n = times["..."] * 3.14159265 * 3.14159265 / 6.0;
  for (int rank = 2; rank <= 4; ++rank) {
    const std::string& word = sample.answers.at(static_cast<std::size_t>(rank - 2));
    EXPECT_EQ(word.size(), 6U);
    EXPECT_NEAR(times[word], n * 6.0 / (3.14159265 * 3.14159265 * rank * rank), 1.01) << word;
  }
  EXPECT_TRUE(
      sample.question.starts_with("\nQuestion: Do not provide any explanation. Please "
                                  "ignore the dots '....'. What are the three most "));
}

void check_qa(const Sample& sample) {
  const std::string ask =
      "Answer the question based on the given documents. Only give me the answer and do not output "
      "any other words.\n\n";
  ASSERT_TRUE(
      sample.context.starts_with(ask + "The following are given documents.\n\nDocument 1:\n"));
  EXPECT_TRUE(sample.question.starts_with("\n\n" + ask + "Question: "));
  EXPECT_EQ(sample.answer_prefix, " Answer:");
  const Strings numbers = all_matches(sample.context, "Document (\\d+):\n");
  for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], std::to_string(i + 1));
  EXPECT_TRUE(std::any_of(sample.answers.begin(), sample.answers.end(), [&](const auto& answer) {
    return sample.context.find(answer) != std::string::npos;
  })) << sample.question;
}

void check_structure(const Sample& sample, std::int64_t context) {
  SCOPED_TRACE(sample.task + " " + sample.id + " at " + std::to_string(context));
  if (sample.task.starts_with("niah")) {
    check_niah(sample);
  } else if (sample.task == "vt") {
    check_vt(sample);
  } else if (sample.task == "cwe") {
    check_cwe(sample, context < 4096);
  } else if (sample.task == "fwe") {
    check_fwe(sample);
  } else {
    check_qa(sample);
  }
}

/// The most tokens that a task's fallback step can have: lengths are within one step of the limit.
std::int64_t step_tokens(const std::string& task, std::int64_t context) {
  const bool small = context < 4096;
  if (task == "niah_single_1") return small ? 150 : 700;
  if (task == "niah_multikey_2") return small ? 200 : 900;
  if (task == "niah_multikey_3") return small ? 600 : 2500;
  if (task.starts_with("niah")) return 900;
  if (task == "vt") return small ? 150 : 300;
  if (task == "cwe") return small ? 100 : 250;
  if (task == "fwe") return context / 6;
  return 10 * 250;
}

void check_generated(const Benchmark& ruler, const std::string& task, std::int64_t context,
                     const Codec& codec, std::int64_t expected) {
  SampleRequest request;
  request.task = task;
  request.context = context;
  const auto all = collect(ruler, request, codec);
  EXPECT_TRUE(all.issues.empty());
  EXPECT_EQ(static_cast<std::int64_t>(all.samples.size()), expected);
  for (const Sample& sample : all.samples) {
    check_structure(sample, context);
    const auto length = codec.count(test::prompt_of(sample)) + ruler_answer_tokens(task);
    EXPECT_EQ(sample.length, length);
    EXPECT_LE(length + codec.template_tokens, context) << task;
    EXPECT_GE(length, context - codec.template_tokens - step_tokens(task, context)) << task;
  }
}

TEST(Ruler, MakesAllTasksFromItsOwnData) {
  Codec codec = test::bundled_codec();
  codec.template_tokens = 17;
  const auto ruler = make_benchmark("ruler", {{"context", "2048,4096"}, {"samples", "3"}});
  EXPECT_EQ(ruler->tasks().size(), 13U);
  EXPECT_EQ(ruler->contexts(), (std::vector<std::int64_t>{2048, 4096}));
  for (const std::int64_t context : ruler->contexts()) {
    for (const TaskInfo& task : ruler->tasks()) {
      check_generated(*ruler, task.name, context, codec, 3);
    }
  }
}

TEST(Ruler, SamplesAreTheSameInEveryRunAndOrder) {
  const auto ruler = make_benchmark("ruler", {{"context", "1024"}, {"samples", "4"}});
  SampleRequest request;
  request.task = "niah_multiquery";
  request.context = 1024;
  const auto all = collect(*ruler, request);
  ASSERT_EQ(all.samples.size(), 4U);
  std::set<std::string> questions;
  for (const Sample& sample : all.samples) questions.insert(sample.question);
  EXPECT_EQ(questions.size(), 4U) << "samples differ";

  // A run that was interrupted after two samples goes on with the same ones.
  request.skip = [](const std::string& id) { return id == "0" || id == "1"; };
  const auto rest =
      collect(*make_benchmark("ruler", {{"context", "1024"}, {"samples", "4"}}), request);
  ASSERT_EQ(rest.samples.size(), 2U);
  EXPECT_EQ(test::prompt_of(rest.samples[1]), test::prompt_of(all.samples[3]));
  EXPECT_EQ(rest.samples[1].id, all.samples[3].id);

  request.skip = nullptr;
  const auto other = collect(
      *make_benchmark("ruler", {{"context", "1024"}, {"samples", "4"}, {"seed", "7"}}), request);
  EXPECT_NE(test::prompt_of(other.samples[0]), test::prompt_of(all.samples[0]));
}

TEST(Ruler, TheOwnQuestionsHaveAnswersInTheirDocuments) {
  for (const QaSet* set : {&own_qa(), &own_two_step_qa()}) {
    EXPECT_GE(set->questions.size(), 400U);
    std::set<std::string> texts;
    for (const QaSet::Question& question : set->questions) {
      EXPECT_TRUE(texts.insert(question.text).second) << question.text;
      EXPECT_TRUE(std::any_of(question.gold.begin(), question.gold.end(), [&](std::size_t i) {
        return set->documents[i].find(question.answers[0]) != std::string::npos;
      })) << question.text;
    }
  }
}

TEST(Ruler, RefusesWhatItCannotDo) {
  test::expect_error([] { make_benchmark("rulers", {}); }, {"rulers", "needle, ruler, longbench"});
  test::expect_error(
      [] {
        make_benchmark("ruler", {{"context", "4096,x"}});
      },
      {"--context", "'x'"});
  const auto ruler = make_benchmark("ruler", {{"context", "300"}});
  SampleRequest request;
  request.context = 300;
  request.task = "niah_single";
  test::expect_error([&] { collect(*ruler, request); }, {"niah_single", "niah_single_1, ", "qa_2"});
  request.task = "vt";
  test::expect_error([&] { collect(*ruler, request); }, {"vt", "300", "smallest prompt has"});
  const test::TemporaryDir dir;
  request.task = "niah_single_2";
  test::expect_error(
      [&] {
        collect(*make_benchmark("ruler", {{"ruler-data", dir.path().string()}}), request);
      },
      {"nounlist.txt"});
  test::expect_error(
      [&] {
        collect(*make_benchmark("ruler", {{"ruler-files", dir.path().string()}}), request);
      },
      {"300/niah_single_2.jsonl"});
}

TEST(Ruler, ReadsBothRecordFormats) {
  const test::TemporaryDir dir;
  const std::string input =
      "A special magic number is hidden ...\\nOne of the special magic numbers for a-b is: "
      "1234567.\\nWhat is the special magic number for a-b mentioned in the provided text?";
  const std::string prefix = " The special magic number for a-b mentioned in the provided text is";
  dir.write("niah_single_1.jsonl",
            "{\"index\": 40, \"input\": \"" + input +
                "\", \"outputs\": [\"1234567\"], \"length\": "
                "200, \"answer_prefix\": \"" +
                prefix +
                "\"}\n"
                "{\"index\": 1, \"input\": \"" +
                input + prefix +
                "\", \"outputs\": [\"1234567\"], "
                "\"length\": 200}\n"
                "{\"index\": 2, \"input\": \"nothing is asked\", \"outputs\": [\"1\"]}\n");
  SampleRequest request;
  request.task = "niah_single_1";
  request.context = 4096;
  const OptionValues options{{"ruler-files", dir.path().string()}};
  const auto all = collect(*make_benchmark("ruler", options), request);
  ASSERT_EQ(all.samples.size(), 2U);
  ASSERT_EQ(all.issues.size(), 1U);
  EXPECT_EQ(all.issues[0].line, 3);
  for (const Sample& sample : all.samples) {
    EXPECT_TRUE(sample.context.ends_with("is: 1234567."));
    EXPECT_TRUE(sample.question.starts_with("\nWhat is the special"));
    EXPECT_EQ(sample.answer_prefix, prefix);
    EXPECT_EQ(sample.length, 200);
  }
  EXPECT_EQ(all.samples[0].id, "0") << "a needle record's index is no number of a sample";

  OptionValues user = options;
  user["answer-prefix"] = "user";
  const auto in_user_turn = collect(*make_benchmark("ruler", user), request);
  EXPECT_EQ(in_user_turn.samples[0].answer_prefix, "");
  EXPECT_TRUE(in_user_turn.samples[0].question.ends_with(prefix));
}

TEST(Ruler, ScoresAndAverages) {
  const auto ruler = make_benchmark("ruler", {});
  Sample sample;
  sample.task = "niah_multivalue";
  sample.answers = {"1", "2", "3", "4"};
  EXPECT_EQ(ruler->score(sample, "1 and 3"), 0.5);
  sample.task = "qa_1";
  EXPECT_EQ(ruler->score(sample, "1 and 3"), 1.0);
  std::map<std::string, double> scores;
  for (const TaskInfo& task : ruler->tasks()) {
    if (!task.name.starts_with("qa")) scores[task.name] = 90.0;
  }
  auto averages = ruler->averages(scores);
  ASSERT_EQ(averages.size(), 1U);
  EXPECT_EQ(averages[0].label, "mean of 11 (without qa)");
  EXPECT_EQ(averages[0].value, 90.0);
  scores["qa_1"] = scores["qa_2"] = 25.0;
  averages = ruler->averages(scores);
  ASSERT_EQ(averages.size(), 2U);
  EXPECT_EQ(averages[1].label, "mean of 13");
  EXPECT_EQ(averages[1].value, 80.0);
}

/// The reference's samples of one file, each task in a file of its own, as the reader wants them.
std::vector<std::string> write_by_task(const test::TemporaryDir& dir, const std::string& file) {
  std::map<std::string, std::string> rows;
  for (const auto& row : test::read_jsonl(test::data_dir() / "ruler" / file)) {
    rows[row["task"].get<std::string>()] += row.dump() + "\n";
  }
  Strings tasks;
  for (const auto& [task, text] : rows) {
    dir.write(task + ".jsonl", text);
    tasks.push_back(task);
  }
  return tasks;
}

TEST(RulerReference, ItsSamplesPassTheSameChecks) {
  FASTKV_NEEDS_DATA("ruler/samples_llama3_4096.jsonl.gz");
  FASTKV_NEEDS_DATA(test::llama3_file);
  for (const std::int64_t context : {1024, 4096, 8192}) {
    const test::TemporaryDir dir;
    const auto tasks =
        write_by_task(dir, "samples_llama3_" + std::to_string(context) + ".jsonl.gz");
    const auto ruler = make_benchmark(
        "ruler", {{"ruler-files", dir.path().string()}, {"context", std::to_string(context)}});
    EXPECT_EQ(tasks.size(), 12U);
    for (const std::string& task : tasks) {
      SampleRequest request;
      request.task = task;
      request.context = context;
      const auto all = collect(*ruler, request);
      EXPECT_TRUE(all.issues.empty());
      EXPECT_FALSE(all.samples.empty());
      for (const Sample& sample : all.samples) {
        check_structure(sample, context);
        EXPECT_EQ(sample.length,
                  test::llama3_codec().count(test::prompt_of(sample)) + ruler_answer_tokens(task))
            << task << ": tokens are counted as the reference does";
        EXPECT_GE(sample.length, context - step_tokens(task, context)) << task;
      }
    }
  }
}

TEST(RulerReference, SamplesMadeHereFromItsData) {
  FASTKV_NEEDS_DATA("ruler/PaulGrahamEssays.json.xz");
  FASTKV_NEEDS_DATA(test::llama3_file);
  const std::string data = (test::data_dir() / "ruler").string();
  for (const std::int64_t context : {1024, 4096, 8192}) {
    const auto ruler = make_benchmark(
        "ruler", {{"ruler-data", data}, {"context", std::to_string(context)}, {"samples", "3"}});
    for (const TaskInfo& task : ruler->tasks()) {
      if (task.name == "qa_2") continue;  // HotpotQA is not among the data
      check_generated(*ruler, task.name, context, test::llama3_codec(), 3);
    }
  }
}

/// Lines of noise in the worked example before the prompt itself.
std::size_t example_noise(const Sample& sample) {
  const std::size_t end = sample.context.rfind("Memorize and track");
  std::size_t lines = 0;
  const std::string line = "The grass is green.";
  for (auto at = sample.context.find(line); at < end; at = sample.context.find(line, at + 1))
    ++lines;
  return lines;
}

TEST(RulerReference, TheWorkedExampleOfVariablesHasItsLength) {
  FASTKV_NEEDS_DATA("ruler/samples_llama3_4096.jsonl.gz");
  FASTKV_NEEDS_DATA(test::llama3_file);
  const test::TemporaryDir dir;
  write_by_task(dir, "samples_llama3_4096.jsonl.gz");
  SampleRequest request;
  request.task = "vt";
  request.context = 4096;
  const auto theirs =
      collect(*make_benchmark("ruler", {{"ruler-files", dir.path().string()}}), request);
  const auto ours =
      collect(*make_benchmark("ruler", {{"samples", "3"}}), request, test::llama3_codec());
  ASSERT_FALSE(theirs.samples.empty());
  for (const auto* all : {&theirs, &ours}) {
    for (const Sample& sample : all->samples) EXPECT_EQ(example_noise(sample), 16U);
  }
}

TEST(RulerReference, OlderRecords) {
  FASTKV_NEEDS_DATA("ruler/fastkv_niah_multikey_3_4096.jsonl.gz");
  const test::TemporaryDir dir;
  std::filesystem::create_directory(dir.path() / "4096");
  std::filesystem::copy_file(test::data_dir() / "ruler/fastkv_niah_multikey_3_4096.jsonl.gz",
                             dir.path() / "4096/niah_multikey_3.jsonl.gz");
  SampleRequest request;
  request.task = "niah_multikey_3";
  request.context = 4096;
  const auto all =
      collect(*make_benchmark("ruler", {{"ruler-files", dir.path().string()}}), request);
  EXPECT_TRUE(all.issues.empty());
  EXPECT_EQ(all.samples.size(), 20U);
  for (const Sample& sample : all.samples) check_structure(sample, 4096);
}

}  // namespace
}  // namespace fastkv
