// fastkv score: rows in, numbers out, and what it says of rows that are not what they should be.

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/program.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::data_dir;
using test::fastkv;
using test::Result;

/// The JSON objects of an output; sentences about errors may stand between them.
std::vector<json> rows_of(const std::string& text) {
  std::vector<json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('{')) rows.push_back(json::parse(line));
  }
  return rows;
}

class Score : public test::ProgramTest {
 protected:
  const std::string qasper_ =
      R"({"pred": "Paris.", "answers": ["London", "paris"], "length": 3999})"
      "\n"
      R"({"pred": "Rome", "answers": ["London"], "length": 9000})"
      "\n\n"
      R"({"pred": "a b b", "answers": ["b b c"], "length": 9000})"
      "\n";
};

TEST_F(Score, LongBenchTableAndJson) {
  const std::string qasper = file("qasper.jsonl", qasper_);
  const std::string lcc = file("lcc.jsonl", R"({"pred": "x = 1\n#", "answers": "x = 1"})");
  // A data set of LongBench-E, with a score of its own and in no mean of LongBench's.
  const std::string even = file("lcc_e.jsonl", R"({"pred": "none", "answers": "x = 1"})");
  const std::string out = (directory_ / "scores.json").string();
  const Result r = fastkv("score longbench " + even + " " + lcc + " " + qasper + " --json " + out);
  EXPECT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("mean of the English and code data sets  2 of 16"), std::string::npos)
      << r.out;
  const json report = json::parse(std::ifstream(out));
  ASSERT_EQ(report["datasets"].size(), 3U);
  const json& first = report["datasets"][0];
  ASSERT_EQ(first["dataset"], "qasper") << "LongBench's order, not that of the files";
  EXPECT_EQ(first["score"], 60.0);
  EXPECT_EQ(first["by_length"]["0-4k"], 100.0);
  EXPECT_TRUE(first["by_length"]["4-8k"].is_null());
  EXPECT_EQ(first["by_length"]["8k+"], 40.0);
  EXPECT_EQ(report["datasets"][1]["dataset"], "lcc");
  EXPECT_EQ(report["datasets"][2]["dataset"], "lcc_e");
  EXPECT_EQ(report["averages"].back()["score"], 80.0);
}

TEST_F(Score, OneLineARow) {
  const Result r = fastkv("score longbench --per-row " + file("qasper.jsonl", qasper_));
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out, "{\"score\":1.0}\n{\"score\":0.0}\n{\"score\":0.8}\n");
  const std::string ruler = file("r.jsonl", R"({"pred": "AB\u0001c", "outputs": ["ab\nc", "x"]})");
  EXPECT_EQ(rows_of(fastkv("score ruler --per-row --dataset vt " + ruler).out)[0]["score"], 50.0);
  EXPECT_EQ(rows_of(fastkv("score ruler --per-row --dataset qa_1 " + ruler).out)[0]["score"],
            100.0);
  EXPECT_EQ(rows_of(fastkv("score ruler --per-row --raw --dataset vt " + ruler).out)[0]["score"],
            0.0);
  const std::string choice =
      file("preds_code_debug.jsonl", R"({"prediction": "B", "ground_truth": ["f", "B"]})");
  EXPECT_EQ(rows_of(fastkv("score infinitebench --per-row " + choice).out)[0]["score"], 1.0);
  EXPECT_EQ(rows_of(fastkv("score infinitebench --scorer v1 --per-row " + choice).out)[0]["score"],
            0.0);
  const std::string needle = file("n.jsonl", R"({"response": "eat a sandwich"})");
  EXPECT_EQ(rows_of(fastkv("score needle --per-row " + needle).out)[0]["overlap"], 3.0);
  const std::string code =
      file("lcc.jsonl", R"({"prediction": "XYZa1b2c3d4", "ground_truth": "abcdXYZ"})");
  EXPECT_EQ(rows_of(fastkv("score longbench --per-row " + code).out)[0]["score"], 0.33);
  EXPECT_EQ(rows_of(fastkv("score longbench --per-row --code-similarity levenshtein " + code)
                        .out)[0]["score"],
            0.44);
}

TEST_F(Score, CountsRowsThatItCannotScore) {
  const std::string path =
      file("trec.jsonl",
           "{\"pred\": \"A\", \"answers\": [\"A\"], \"all_classes\": [\"A\"]}\n"
           "not JSON\n"
           "{\"pred\": \"A\", \"answers\": [\"A\"]}\n"
           "{\"pred\": 3, \"answers\": [\"A\"], \"all_classes\": [\"A\"]}\n");
  const Result r = fastkv("score longbench " + path);
  EXPECT_EQ(r.code, 2);
  EXPECT_NE(r.out.find("100.00"), std::string::npos) << "the good row: " << r.out;
  for (const char* words : {"line 2: this is not valid JSON", "line 3: the row has no field",
                            "line 4: field \"pred\" must be a string", "3 of 4 rows"}) {
    EXPECT_NE(r.out.find(words), std::string::npos) << words << "\n" << r.out;
  }
  const std::vector<json> rows = rows_of(fastkv("score longbench --per-row " + path).out);
  ASSERT_EQ(rows.size(), 4U) << "a line for every row";
  EXPECT_EQ(rows[0]["score"], 1.0);
  EXPECT_TRUE(rows[1].contains("error"));
}

TEST_F(Score, RefusesWhatItDoesNotKnow) {
  const std::string rows = file("stuff.jsonl", qasper_);
  expect_refused("score", "longbench, ruler, needle, infinitebench");
  expect_refused("score longbench", "a file of answers");
  expect_refused("score bench " + rows, "longbench, ruler, needle, infinitebench");
  expect_refused("score longbench " + rows, "narrativeqa, qasper");
  expect_refused("score longbench --dataset x " + rows, "'x' is no data set");
  expect_refused("score ruler --dataset niah " + rows, "niah_single_1");
  expect_refused("score infinitebench --dataset qa " + rows, "longbook_qa_eng");
  expect_refused("score longbench /nowhere/at/all", "cannot open");
  expect_refused("score longbench " + file("empty.jsonl", "\n"), "no rows");
  expect_refused("score longbench --code-similarity x " + rows, "difflib");
  expect_refused("score longbench --dataset vcsum " + rows, "--jieba");
  expect_refused("score longbench --dataset vcsum --jieba /nowhere " + rows, "dict.txt");
  expect_refused("score longbench --dataset qasper --json /nowhere/x.json " + rows,
                 "cannot be written");
}

/// Compares `field` of each row of a golden file with the score that the program prints.
void expect_golden(const std::string& arguments, const std::string& golden, const char* printed,
                   const char* field, double tolerance) {
  const std::vector<json> want = test::read_jsonl(data_dir() / golden);
  const Result r = fastkv("score " + arguments + " --per-row " + (data_dir() / golden).string());
  ASSERT_EQ(r.code, 0) << r.out.substr(0, 1000);
  const std::vector<json> got = rows_of(r.out);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!want[i].contains(field)) continue;
    EXPECT_NEAR(got[i][printed].get<double>(), want[i][field].get<double>(), tolerance) << i;
  }
}

TEST_F(Score, GoldenRows) {
  FASTKV_NEEDS_DATA("longbench/metric_golden.jsonl");
  FASTKV_NEEDS_DATA("ruler/metric_golden.jsonl");
  FASTKV_NEEDS_DATA("haystack/needle_score_golden.jsonl");
  FASTKV_NEEDS_DATA("jieba/dict.txt.gz");
  const std::string jieba = " --jieba " + (data_dir() / "jieba").string();
  expect_golden("longbench" + jieba, "longbench/metric_golden.jsonl", "score", "score", 0);
  expect_golden("longbench --code-similarity levenshtein" + jieba, "longbench/metric_golden.jsonl",
                "score", "score_levenshtein", 0);
  for (const char* metric : {"string_match_all", "string_match_part",
                             "string_match_all_postprocessed", "string_match_part_postprocessed"}) {
    expect_golden("ruler", "ruler/metric_golden.jsonl", metric, metric, 0);
  }
  expect_golden("needle", "haystack/needle_score_golden.jsonl", "score", "score", 1e-12);
}

}  // namespace
}  // namespace fastkv
