#include "eval/results.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "eval/summary.h"
#include "support/expect_error.h"
#include "tasks/benchmark.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;

class Results : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("fastkv_eval_" + std::to_string(getpid()));
    fs::create_directories(directory_);
    path_ = directory_ / "ruler.jsonl";
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string text() const {
    std::ifstream in(path_);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path directory_, path_;
};

RunSetting setting() {
  RunSetting s;
  s.benchmark = "ruler";
  s.benchmark_options = {{"context", "4096"}, {"seed", "42"}};
  s.model = "needle";
  s.model_hash = "abc";
  s.code_version = "0.1.0";
  s.protocol = "query-aware";
  s.dtype = "bfloat16";
  s.device_kind = "cpu";
  return s;
}

SampleResult result(const std::string& method, const std::string& options, const std::string& task,
                    std::int64_t context, int id, double score) {
  SampleResult r;
  r.method = method;
  r.options = options;
  r.task = task;
  r.context = context;
  r.id = std::to_string(id);
  r.sample = "0123456789abcdef";
  r.prediction = "a \"quoted\"\nanswer \xe4\xb8\xad";
  r.score = score;
  r.prompt_tokens = context;
  r.kept = {context, context / 2};
  r.heads = {2, 2};
  r.kv_bytes = static_cast<std::size_t>(context) * 3 * 256;
  r.kv_bytes_full = static_cast<std::size_t>(context) * 4 * 256;
  r.entry_bytes = 256;
  r.finish = "length";
  r.generated_tokens = 5;
  r.device = "CPU";
  r.prefill_seconds = 0.1 * id + 1.0 / 3.0;
  r.decode_seconds = 0.7;
  r.seconds = 1.1;
  r.peak_memory = 1000;
  return r;
}

TEST_F(Results, AreReadAsTheyWereWritten) {
  const SampleResult written = result("fastkv", R"({"retain":0.1})", "vt", 4096, 3, 1.0 / 3.0);
  {
    ResultFile found;
    ResultWriter writer(path_, setting(), found);
    writer.add(written);
    writer.add_issue("vt", "data.jsonl:2: mended since");
    writer.add_issue("vt", "data.jsonl:3: no");
    writer.clear_issue("data.jsonl:2: mended since");
  }
  const ResultFile read = read_results(path_);
  EXPECT_EQ(read.setting.json(), setting().json());
  ASSERT_EQ(read.results.size(), 1U);
  EXPECT_EQ(read.results[0].json(), written.json());
  EXPECT_EQ(read.results[0].score, 1.0 / 3.0);
  EXPECT_EQ(read.issues, std::vector<std::string>{"data.jsonl:3: no"});
  EXPECT_EQ(read.task_of_issue.at("data.jsonl:3: no"), "vt");
  EXPECT_EQ(read.task_of_issue.size(), 1U);
  EXPECT_TRUE(read.notes.empty());
  EXPECT_EQ(find_result_files(directory_, "ruler"), std::vector<fs::path>{path_});
  std::ofstream(directory_ / "ruler.2-of-3.jsonl");
  std::ofstream(directory_ / "ruler.scores.jsonl");
  EXPECT_EQ(find_result_files(directory_, "ruler").size(), 2U);
}

/// Whatever byte the program was killed at: whole lines stay, and the next run goes on.
TEST_F(Results, SurviveACutAtEveryByte) {
  {
    ResultFile found;
    ResultWriter writer(path_, setting(), found);
    for (int i = 0; i < 2; ++i) writer.add(result("full", "{}", "vt", 4096, i, 1.0));
  }
  const std::string whole = text();
  const std::size_t first = whole.find('\n') + 1;
  const std::size_t second = whole.find('\n', first) + 1;
  for (std::size_t cut = 0; cut <= whole.size(); cut += 7) {
    std::ofstream(path_, std::ios::binary) << whole.substr(0, cut);
    ResultFile found;
    {
      ResultWriter writer(path_, setting(), found);
      const std::size_t expected = cut < second ? 0 : cut < whole.size() ? 1 : 2;
      ASSERT_EQ(found.results.size(), expected) << cut;
      const bool torn = cut != 0 && cut != first && cut != second && cut != whole.size();
      EXPECT_EQ(found.notes.size(), torn ? 1U : 0U) << cut;
      for (std::size_t i = expected; i < 2; ++i)
        writer.add(result("full", "{}", "vt", 4096, static_cast<int>(i), 1.0));
    }
    ASSERT_EQ(text(), whole) << cut;
  }
}

TEST_F(Results, OfAnotherSettingAreRefused) {
  RunSetting failed = setting();
  failed.protocol = "query-agnostic";
  {  // A run that failed before its first answer is in nobody's way.
    ResultFile found;
    ResultWriter writer(path_, failed, found);
  }
  {
    ResultFile found;
    ResultWriter writer(path_, setting(), found);
    writer.add(result("fastkv", R"({"retain":0.1})", "vt", 4096, 3, 0.5));
  }
  EXPECT_EQ(read_results(path_).setting.json(), setting().json());
  const auto refused = [&](auto change, const std::string& words) {
    RunSetting other = setting();
    change(other);
    ResultFile found;
    test::expect_error([&] { ResultWriter writer(path_, other, found); }, {words});
  };
  refused([](RunSetting& s) { s.model_hash = "abd"; }, "another model (abc, now abd)");
  refused([](RunSetting& s) { s.code_version = "0.2.0"; }, "another version of the program");
  refused([](RunSetting& s) { s.protocol = "query-agnostic"; }, "another protocol");
  refused([](RunSetting& s) { s.benchmark_options["seed"] = "1"; }, "another --seed");
  refused([](RunSetting& s) { s.dtype = "float32"; }, "another --dtype");
  refused([](RunSetting& s) { s.max_length = 100; }, "another --max-length");
  RunSetting longer = setting();
  longer.benchmark_options["context"] = "4096,8192";
  longer.model = "elsewhere/needle";
  ResultFile found;
  ResultWriter writer(path_, longer, found);  // more samples of the same kind
  ResultFile again;
  test::expect_error([&] { ResultWriter second(path_, longer, again); }, {"in use"});
}

TEST_F(Results, BrokenLinesAreNamed) {
  {
    ResultFile found;
    ResultWriter writer(path_, setting(), found);
  }
  std::ofstream(path_, std::ios::app) << "{\"method\": 3}\n";
  test::expect_error([&] { read_results(path_); }, {"ruler.jsonl:2"});
  std::ofstream(path_) << "no\n";
  test::expect_error([&] { read_results(path_); }, {"ruler.jsonl:1"});
}

// Summaries --------------------------------------------------------------------------------------

const Benchmark& ruler() {
  static const std::unique_ptr<Benchmark> benchmark = make_benchmark("ruler", {});
  return *benchmark;
}

std::vector<SampleResult> some_results() {
  std::vector<SampleResult> all;
  for (const std::int64_t context : {4096, 8192}) {
    for (const char* retain : {"0.1", "0.2"}) {
      const std::string options = std::string(R"({"mode":"proportional","retain":)") + retain + "}";
      for (int i = 0; i < 12; ++i) {
        all.push_back(result("snapkv", options, "niah_single_1", context, i, i % 3 == 0 ? 0 : 1));
        all.push_back(result("snapkv", options, "vt", context, i, i / 11.0));
      }
    }
    for (int i = 0; i < 12; ++i) all.push_back(result("full", "{}", "vt", context, i, 1.0));
  }
  return all;
}

TEST(Summary, DoesNotDependOnTheOrderOrTheFilesOfItsLines) {
  std::vector<SampleResult> results = some_results();
  // The same answer by two machines: one of them counts, whichever is read first.
  results.push_back(results[0]);
  results.back().prefill_seconds = 99.0;
  const Summary first = summarise({{setting(), results, {}, {}, 1}}, ruler());
  std::mt19937 random(7);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(results.begin(), results.end(), random);
    const auto half = results.begin() + static_cast<std::ptrdiff_t>(random() % results.size());
    // Also with a line that both files have.
    const Summary again = summarise({{setting(), {results.begin(), half + 1}, {}, {}, 1},
                                     {setting(), {half, results.end()}, {}, {}, 1}},
                                    ruler());
    EXPECT_EQ(to_json(again), to_json(first));
    EXPECT_EQ(to_markdown(again), to_markdown(first));
    EXPECT_EQ(scores_csv(again), scores_csv(first));
    EXPECT_EQ(costs_csv(again), costs_csv(first));
    EXPECT_EQ(again.notes.size(), 1U);  // on results that are there twice
  }
}

TEST(Summary, HasMeansAndStandardErrors) {
  const Summary s = summarise({{setting(), some_results(), {}, {}, 1}}, ruler());
  ASSERT_EQ(s.configurations.size(), 3U);
  EXPECT_EQ(s.configurations[0].label, "full");
  EXPECT_EQ(s.configurations[1].label, "snapkv 10 %");
  EXPECT_EQ(s.configurations[2].label, "snapkv 20 %");
  const CellSummary* cell = s.find(1, 4096);
  ASSERT_NE(cell, nullptr);
  ASSERT_EQ(cell->figures.size(), 3U);
  EXPECT_EQ(cell->figures[0].first, "niah_single_1");
  EXPECT_DOUBLE_EQ(cell->figures[0].second.value, 66.67);
  // Eight ones and four zeros: the sample variance is 8/33.
  const double niah = 100 * std::sqrt(8.0 / 33.0 / 12.0);
  EXPECT_NEAR(*cell->figures[0].second.error, niah, 1e-9);
  // 0, 1/11 ... 1: the sample variance is 13/121.
  const double vt = 100 * std::sqrt(13.0 / 121.0 / 12.0);
  EXPECT_NEAR(*cell->figures[1].second.error, vt, 1e-9);
  EXPECT_EQ(cell->figures[2].first, "mean of 2 tasks");
  EXPECT_NEAR(cell->figures[2].second.value, (66.67 + 50) / 2, 0.006);
  EXPECT_NEAR(*cell->figures[2].second.error, std::sqrt(niah * niah + vt * vt) / 2, 1e-6);
  EXPECT_EQ(cell->kept, (std::vector<double>{4096, 2048}));
  EXPECT_EQ(cell->layer_bytes, (std::vector<double>{4096 * 512, 2048 * 512}));
  EXPECT_DOUBLE_EQ(cell->kv_share, 0.75);
}

TEST(Summary, LabelsNameWhatDiffers) {
  const auto fastkv = [](const std::string& more) {
    return result("fastkv", R"({"kernel":7,"mode":"proportional","retain":0.1,)" + more + "}", "vt",
                  4096, 0, 1.0);
  };
  const Summary s =
      summarise({{setting(),
                  {fastkv(R"("tsp_layer":10)"), fastkv(R"("tsp_layer":4)"),
                   result("h2o", R"({"capacity":512,"granularity":"kv-head","mode":"constant"})",
                          "vt", 4096, 0, 1.0)},
                  {},
                  {},
                  1}},
                ruler());
  ASSERT_EQ(s.configurations.size(), 3U);
  EXPECT_EQ(s.configurations[0].label, "fastkv 10 %, tsp-layer 4");
  EXPECT_EQ(s.configurations[1].label, "fastkv 10 %, tsp-layer 10");
  EXPECT_EQ(s.configurations[2].label, "h2o 512");
  EXPECT_FALSE(s.find(0, 4096)->figures[0].second.error.has_value()) << "one sample";
}

TEST(Summary, PartsOfATaskHaveTheirOwnErrors) {
  const auto benchmark = make_benchmark("longbench-e", {});
  RunSetting other = setting();
  other.benchmark = "longbench-e";
  std::vector<SampleResult> results;
  for (int i = 0; i < 6; ++i) {
    results.push_back(result("full", "{}", "qasper_e", 0, i, i % 2));
    results.back().kv_bytes_full = 1;
    results.back().length = i < 4 ? 1000 : 9000;
  }
  const Summary s = summarise({{other, results, {}, {}, 1}}, *benchmark);
  const CellSummary* cell = s.find(0, 0);
  ASSERT_NE(cell, nullptr);
  std::map<std::string, Value> figures(cell->figures.begin(), cell->figures.end());
  EXPECT_EQ(figures.at("qasper_e").samples, 6);
  EXPECT_EQ(figures.at("qasper_e 0-4k").samples, 4);
  EXPECT_NEAR(*figures.at("qasper_e 0-4k").error, 100 * std::sqrt(1.0 / 3.0 / 4.0), 1e-9);
  EXPECT_NEAR(*figures.at("qasper_e 8k+").error, 50.0, 1e-9);
}

TEST(Summary, RefusesFilesThatDoNotBelongTogether) {
  RunSetting other = setting();
  other.protocol = "reference";
  test::expect_error(
      [&] {
        summarise({{setting(), {}, {}, {}, 1}, {other, {}, {}, {}, 1}}, ruler());
      },
      {"another protocol"});
  SampleResult a = result("full", "{}", "vt", 4096, 1, 1.0);
  SampleResult b = result("fastkv", R"({"retain":0.1})", "vt", 4096, 1, 1.0);
  b.sample = "fedcba9876543210";
  test::expect_error(
      [&] {
        summarise({{setting(), {a}, {}, {}, 1}, {setting(), {b}, {}, {}, 1}}, ruler());
      },
      {"sample 1 of vt is not the same in all of them"});
  b.sample = "";  // written before samples were recorded
  EXPECT_EQ(summarise({{setting(), {a, b}, {}, {}, 1}}, ruler()).results.size(), 2U);
}

}  // namespace
}  // namespace fastkv
