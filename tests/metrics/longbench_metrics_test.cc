// LongBench's metrics against values of the reference, and small cases that show each rule.

#include "metrics/longbench_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <random>

#include "core/error.h"
#include "metrics/python_text.h"
#include "metrics/sequence_match.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::data_dir;
using Strings = std::vector<std::string>;

const Segmenter& segmenter() {
  static const Segmenter loaded(data_dir() / "jieba");
  return loaded;
}

TEST(LongBenchMetrics, QuestionAnswering) {
  EXPECT_EQ(qa_f1("The answer is Paris.", "paris"), 2 * (1.0 / 3) / (1.0 / 3 + 1));
  EXPECT_EQ(qa_f1("U.S.A. co-op", "the USA, a coop"), 1.0);
  EXPECT_EQ(qa_f1("a b b", "b b c"), 0.8);
  EXPECT_EQ(qa_f1("an x", "x\x1ethe"), 1.0);
  EXPECT_EQ(qa_f1("the", "the"), 0.0) << "nothing is left of either";
  EXPECT_EQ(qa_f1("thé1 the1", "thé1 the1"), 1.0) << "no articles";
  EXPECT_EQ(qa_f1("the\u0301 x", "\u0301 x"), 1.0) << "a combining mark ends a word";
  EXPECT_EQ(qa_f1("\u0130", "i\u0307"), 1.0);
  EXPECT_EQ(qa_f1("ΟΔΟΣ", "οδος"), 1.0) << "final sigma";
}

TEST(LongBenchMetrics, RougeL) {
  EXPECT_EQ(rouge_l("the cat sat.", "the cat sat."), 2.0 * (1.0 / (2.0 + 1e-8)));
  EXPECT_EQ(rouge_l("", "a"), 0.0);
  EXPECT_EQ(rouge_l("...", "a"), 0.0);
  EXPECT_NEAR(rouge_l("a. ", "b.\n"), 0.5, 1e-7) << "the space behind a full stop is a word";
  // Of the two alignments of one word, b is the one that is read back.
  EXPECT_NEAR(rouge_l("a b", "b a"), 0.5, 1e-7);
  // Sentences b and a of the answer each find their word: 2 of 2, though one alignment has 1.
  EXPECT_NEAR(rouge_l("a b", "b.a"), 1.0, 1e-7);
}

TEST(LongBenchMetrics, NumbersAndClasses) {
  EXPECT_EQ(count_score("there are 7, or 7.5", "7"), 2.0 / 3);
  EXPECT_EQ(count_score("７", "7"), 0.0);
  EXPECT_EQ(count_score("none", "7"), 0.0);
  EXPECT_EQ(retrieval("Paragraph 3 or 4", "Paragraph 4"), 0.5);
  EXPECT_EQ(retrieval_zh("段落4", "段落4"), 1.0);
  EXPECT_THROW(retrieval("Paragraph 3", "3"), Error);
  const Strings classes = {"city", "other city", "country"};
  EXPECT_EQ(classification("other city", "other city", classes), 1.0);
  EXPECT_EQ(classification("city of a country", "city", classes), 0.5);
  // Both parts of the answer are named, but the one behind a removed one is skipped.
  EXPECT_EQ(classification("xy", "xy", Strings{"x", "y", "xy"}), 0.5);
}

TEST(LongBenchMetrics, Code) {
  const auto difflib = CodeSimilarity::difflib;
  EXPECT_EQ(code_similarity("\n# note\nx = 1\ny", "x = 1", difflib), 1.0);
  EXPECT_EQ(code_similarity("```", "", difflib), 1.0) << "no line of code is the empty line";
  EXPECT_EQ(code_similarity("ab", "", difflib), 0.0);
  EXPECT_EQ(code_similarity("abcd", "bcde", difflib), 0.75);
  // The longest block decides in one, the longest subsequence in the other.
  EXPECT_EQ(code_similarity("XYZa1b2c3d4", "abcdXYZ", difflib), 0.33);
  EXPECT_EQ(code_similarity("XYZa1b2c3d4", "abcdXYZ", CodeSimilarity::levenshtein), 0.44);
  // 5 of 8 are 62.5 %: ties go to the even number.
  EXPECT_EQ(code_similarity("aaaaabbb", "aaaaaccc", difflib), 0.62);
}

TEST(LongBenchMetrics, DataSets) {
  const LongBenchDataset& trec = *find_longbench_dataset("trec");
  const Strings classes = {"A", "B"};
  const LongBenchContext context = {.classes = classes};
  EXPECT_EQ(longbench_sample(trec, "\n\nA\nB", Strings{"B", "A"}, context), 1.0);
  EXPECT_EQ(longbench_metric(trec, "\n\nA\nB", "A", context), 0.5);
  EXPECT_EQ(find_longbench_dataset("trec_e"), &trec);
  EXPECT_EQ(find_longbench_dataset("trek"), nullptr);
  EXPECT_THROW(longbench_sample(*find_longbench_dataset("vcsum"), "a", Strings{"a"}, {}), Error);

  EXPECT_EQ(longbench_mean(std::vector<double>{1, 0, 0}), 33.33);
  const LongBenchByLength by = longbench_by_length(std::vector<double>{1, 0, 1},
                                                   std::vector<std::int64_t>{3999, 4000, 7999});
  EXPECT_EQ(by.below_4k, 100.0);
  EXPECT_EQ(by.below_8k, 50.0);
  EXPECT_FALSE(by.above.has_value());
}

TEST(LongBenchMetrics, Averages) {
  const auto score = [](std::string_view name, double value) {
    return LongBenchScore{find_longbench_dataset(name), value};
  };
  const auto averages = longbench_averages(std::vector{
      score("qasper", 10), score("narrativeqa", 20), score("lcc", 60), score("vcsum", 7)});
  std::map<std::string, std::tuple<double, std::size_t, std::size_t>> by_label;
  for (const LongBenchAverage& a : averages) by_label[a.label] = {a.score, a.datasets, a.expected};
  EXPECT_EQ(by_label["single-document QA"], std::tuple(15.0, 2U, 3U));
  EXPECT_EQ(by_label["code completion"], std::tuple(60.0, 1U, 2U));
  EXPECT_EQ(by_label["mean of the categories"], std::tuple(37.5, 2U, 6U));
  EXPECT_EQ(by_label["mean of the English and code data sets"], std::tuple(30.0, 3U, 16U));
  EXPECT_EQ(by_label["mean of the Chinese data sets"], std::tuple(7.0, 1U, 5U));
  EXPECT_EQ(by_label.size(), 5U);
}

TEST(LongBenchMetrics, EqualTheReference) {
  FASTKV_NEEDS_DATA("longbench/metric_golden.jsonl");
  FASTKV_NEEDS_DATA("jieba/dict.txt.gz");
  std::size_t checked = 0;
  for (const json& row : test::read_jsonl(data_dir() / "longbench/metric_golden.jsonl")) {
    const auto name = row["dataset"].get<std::string>();
    const LongBenchDataset* dataset = find_longbench_dataset(name);
    ASSERT_NE(dataset, nullptr) << name;
    const Strings classes = row.value("all_classes", Strings());
    LongBenchContext context = {.classes = classes, .segmenter = &segmenter()};
    const auto prediction = row["prediction"].get<std::string>();
    const auto truth = row["ground_truth"].get<std::string>();
    EXPECT_EQ(longbench_metric(*dataset, prediction, truth, context), row["score"].get<double>())
        << row.dump().substr(0, 1000);
    if (row.contains("score_levenshtein")) {
      context.code = CodeSimilarity::levenshtein;
      EXPECT_EQ(longbench_metric(*dataset, prediction, truth, context),
                row["score_levenshtein"].get<double>())
          << row.dump();
    }
    ++checked;
  }
  EXPECT_EQ(checked, 913U);
}

TEST(LongBenchMetrics, DataSetsEqualTheReference) {
  FASTKV_NEEDS_DATA("longbench/scorer_golden.jsonl");
  FASTKV_NEEDS_DATA("jieba/dict.txt.gz");
  std::size_t checked = 0;
  for (const json& row : test::read_jsonl(data_dir() / "longbench/scorer_golden.jsonl")) {
    const LongBenchDataset& dataset = *find_longbench_dataset(row["dataset"].get<std::string>());
    const auto answers = row["answers"].get<std::vector<Strings>>();
    const Strings predictions = row["predictions"];
    const Strings classes = row["all_classes"].is_null() ? Strings() : Strings(row["all_classes"]);
    for (const std::string suffix : {"", "_levenshtein"}) {
      if (!row.contains("score" + suffix)) continue;
      const LongBenchContext context = {
          .classes = classes,
          .code = suffix.empty() ? CodeSimilarity::difflib : CodeSimilarity::levenshtein,
          .segmenter = &segmenter()};
      std::vector<double> scores;
      for (std::size_t i = 0; i < predictions.size(); ++i) {
        scores.push_back(longbench_sample(dataset, predictions[i], answers[i], context));
      }
      EXPECT_EQ(longbench_mean(scores), row["score" + suffix].get<double>()) << dataset.name;
      const LongBenchByLength by =
          longbench_by_length(scores, row["lengths"].get<std::vector<std::int64_t>>());
      const auto want = [&](const char* group) -> std::optional<double> {
        const json& value = row["score_e" + suffix][group];
        return value.is_null() ? std::nullopt : std::optional(value.get<double>());
      };
      EXPECT_EQ(by.below_4k, want("0-4k")) << dataset.name;
      EXPECT_EQ(by.below_8k, want("4-8k")) << dataset.name;
      EXPECT_EQ(by.above, want("8k+")) << dataset.name;
    }
    ++checked;
  }
  EXPECT_EQ(checked, 42U);
}

std::uint32_t below(std::mt19937& random, unsigned n) {
  return static_cast<std::uint32_t>(random() % n);
}

// The table of the definition, and the read-back by its rule.
std::vector<std::pair<std::size_t, std::size_t>> simple_lcs(const std::vector<std::uint32_t>& a,
                                                            const std::vector<std::uint32_t>& b) {
  std::vector<std::vector<int>> t(a.size() + 1, std::vector<int>(b.size() + 1));
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      t[i][j] = a[i - 1] == b[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
    }
  }
  std::vector<std::pair<std::size_t, std::size_t>> out;
  for (std::size_t i = a.size(), j = b.size(); i && j;) {
    if (a[i - 1] == b[j - 1]) {
      out.emplace_back(--i, --j);
    } else if (t[i - 1][j] > t[i][j - 1]) {
      --i;
    } else {
      --j;
    }
  }
  return out;
}

TEST(SequenceMatch, EqualsTheTable) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<std::uint32_t> a(below(random, 300)), b(below(random, 300));
    // With many letters whole words of the bit rows are without a match, and carries pass them.
    const unsigned letters = 1 + below(random, trial % 2 == 0 ? 12 : 300);
    for (auto& x : a) x = below(random, letters);
    for (auto& x : b) x = below(random, letters);
    const auto want = simple_lcs(a, b);
    ASSERT_EQ(lcs_positions(a, b), want) << "trial " << trial;
    ASSERT_EQ(lcs_length(a, b), want.size()) << "trial " << trial;
  }
}

// difflib as its documentation describes it.
std::size_t simple_difflib(std::u32string_view a, std::u32string_view b,
                           const std::map<char32_t, bool>& frequent) {
  std::size_t size = 0, best_a = 0, best_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < b.size(); ++j) {
      std::size_t k = 0;
      while (i + k < a.size() && j + k < b.size() && a[i + k] == b[j + k] &&
             !frequent.at(b[j + k])) {
        ++k;
      }
      if (k > size) size = k, best_a = i, best_b = j;
    }
  }
  while (best_a && best_b && a[best_a - 1] == b[best_b - 1]) --best_a, --best_b, ++size;
  while (best_a + size < a.size() && best_b + size < b.size() &&
         a[best_a + size] == b[best_b + size]) {
    ++size;
  }
  if (size == 0) return 0;
  return size + simple_difflib(a.substr(0, best_a), b.substr(0, best_b), frequent) +
         simple_difflib(a.substr(best_a + size), b.substr(best_b + size), frequent);
}

TEST(SequenceMatch, EqualsDifflib) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    std::u32string a(below(random, 300), U'a'), b(150 + below(random, 160), U'a');
    const unsigned letters = 2 + below(random, 120);
    for (auto& c : a) c += below(random, letters);
    for (auto& c : b) c += below(random, letters);
    std::map<char32_t, bool> frequent;
    for (const char32_t c : b) {
      const auto times = static_cast<std::size_t>(std::count(b.begin(), b.end(), c));
      frequent[c] = b.size() >= 200 && times > b.size() / 100 + 1;
    }
    ASSERT_EQ(difflib_matches(a, b), simple_difflib(a, b, frequent)) << "trial " << trial;
  }
}

TEST(SequenceMatch, LongTextsAreNoDisaster) {
  std::mt19937 random(7);
  std::string a, b;
  std::u32string c, d;
  for (int i = 0; i < 4096; ++i) {
    a += "w" + std::to_string(below(random, 500)) + " ";
    b += "w" + std::to_string(below(random, 500)) + " ";
    for (int k = 0; k < 4; ++k) {
      c.push_back(U'a' + below(random, 60));
      d.push_back(U'a' + below(random, 150));
    }
  }
  const auto seconds = [](auto&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double rouge = seconds([&] { EXPECT_GT(rouge_l(a, b), 0); });
  const double difflib = seconds([&] { EXPECT_GT(difflib_matches(c, d), 0U); });
  const double edit = seconds([&] {
    EXPECT_GT(lcs_length(std::vector<std::uint32_t>(c.begin(), c.end()),
                         std::vector<std::uint32_t>(d.begin(), d.end())),
              0U);
  });
  std::printf("ROUGE-L of 4096 words %.1f ms; 16384 characters: difflib %.1f ms, LCS %.1f ms\n",
              1e3 * rouge, 1e3 * difflib, 1e3 * edit);
  // Generous: sanitizers and a busy machine are allowed for, quadratic steps are not.
  EXPECT_LT(rouge, 1.0);
  EXPECT_LT(difflib, 5.0);
  EXPECT_LT(edit, 1.0);
}

TEST(PythonText, IsPythons) {
  EXPECT_EQ(python_strip("\u3000 a b\x1f\n"), "a b");
  EXPECT_EQ(python_strip(" \n"), "");
  EXPECT_EQ(python_split(" a\u2003b  c "), (Strings{"a", "b", "c"}));
  EXPECT_EQ(python_upper("straße ΐ"), "STRASSE \u0399\u0308\u0301");
  EXPECT_EQ(python_lower("ÀB"), "àb");
  EXPECT_EQ(python_round(2.675, 2), 2.67) << "the double is below 2.675";
  EXPECT_EQ(python_round(0.125, 2), 0.12);
  EXPECT_EQ(python_round(62.5, 0), 62.0);
}

// A small dictionary, and a model in which 丙丁 is a word and 戊 one by itself.
class SmallSegmenter : public testing::Test {
 protected:
  SmallSegmenter() {
    directory.write("dict.txt",
                    "甲 1 n\n乙 1 n\n甲乙 40 n\n己 90\n庚 90\n己庚 1\nC++ 9 nz\n3.14x 2\n");
    directory.write("hmm.json", R"({
      "start": {"B": -0.3, "E": -3.14e100, "M": -3.14e100, "S": -1.4},
      "trans": {"B": {"E": -0.5, "M": -0.9}, "E": {"B": -0.6, "S": -0.8},
                "M": {"E": -0.3, "M": -1.2}, "S": {"B": -0.7, "S": -0.7}},
      "emit": {"B": {"丙": -1, "戊": -9, "己": -1},
               "E": {"丁": -1, "戊": -9, "庚": -1}, "M": {"辛": -1},
               "S": {"丙": -9, "丁": -9, "戊": -1}}})");
  }
  test::TemporaryDir directory;
};

TEST_F(SmallSegmenter, FindsWordsByDictionaryAndModel) {
  const Segmenter small(directory.path());
  EXPECT_EQ(small.cut(""), Strings());
  EXPECT_EQ(small.cut("甲乙乙甲"), (Strings{"甲乙", "乙", "甲"}));
  EXPECT_EQ(small.cut("丙丁戊"), (Strings{"丙丁", "戊"}));
  EXPECT_EQ(small.cut("丙辛丁"), (Strings{"丙辛丁"}));
  EXPECT_EQ(small.cut("己庚"), (Strings{"己", "庚"})) << "a word, but less likely than its parts";
  EXPECT_EQ(small.cut("己庚戊"), (Strings{"己庚", "戊"})) << "no word: the model decides";
  EXPECT_EQ(small.cut("用C++写"), (Strings{"用", "C++", "写"}));
  EXPECT_EQ(small.cut("v2.50%的"), (Strings{"v2.50%", "的"}));
  EXPECT_EQ(small.cut("，a b\r\n\n丁"), (Strings{"，", "a", " ", "b", "\r\n", "\n", "丁"}));
}

TEST_F(SmallSegmenter, SaysWhichFileIsMissingOrWrong) {
  const auto message = [&] {
    try {
      Segmenter loaded(directory.path());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  directory.write("dict.txt", "甲 1\n乙\n");
  EXPECT_NE(message().find("dict.txt, line 2"), std::string::npos) << message();
  directory.write("dict.txt", "甲 1\n");
  directory.write("hmm.json", "{\"start\": {}}");
  EXPECT_NE(message().find("hmm.json"), std::string::npos) << message();
  std::filesystem::remove(directory.path() / "hmm.json");
  EXPECT_NE(message().find("hmm.json: this file of jieba's is missing"), std::string::npos)
      << message();
}

TEST(Segmenter, EqualsJieba) {
  FASTKV_NEEDS_DATA("jieba/segmentation_golden.jsonl");
  std::size_t checked = 0;
  for (const json& row : test::read_jsonl(data_dir() / "jieba/segmentation_golden.jsonl")) {
    EXPECT_EQ(segmenter().cut(row["text"].get<std::string>()), row["tokens"].get<Strings>());
    ++checked;
  }
  EXPECT_EQ(checked, 507U);
}

}  // namespace
}  // namespace fastkv
