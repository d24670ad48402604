// InfiniteBench's scorers, both states of them.

#include "metrics/infinitebench_metrics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace fastkv {
namespace {

using nlohmann::json;

double score(std::string_view task, std::string_view prediction, const json& label,
             InfiniteBenchScorer scorer = InfiniteBenchScorer::v2, bool drops_first = false) {
  return infinitebench_score(*find_infinitebench_task(task), prediction, label, scorer,
                             drops_first);
}

struct Case {
  const char* prediction;
  json label;
  double v2;
  double v1;
};

void expect_scores(const char* task, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_DOUBLE_EQ(score(task, c.prediction, c.label), c.v2) << task << ": " << c.prediction;
    EXPECT_DOUBLE_EQ(score(task, c.prediction, c.label, InfiniteBenchScorer::v1), c.v1)
        << task << " v1: " << c.prediction;
  }
}

TEST(InfiniteBench, CodeDebug) {
  const json label = {"repack", "B"};
  expect_scores("code_debug", {{"B", label, 1, 0},
                               {"B.", label, 1, 1},
                               {"The answer is C", label, 0, 0},
                               {"A or B", label, 1, 0},
                               {"B\nA", label, 1, 0},
                               {"A\nB", label, 0, 0},
                               {"repack is wrong", label, 1, 0},
                               {"Broken code", label, 1, 0},
                               {"`B`", label, 1, 0},
                               {"*B* or none (A)", label, 0, 0},
                               {"The correct option is: repack", label, 1, 1},
                               {"The answer is:B", label, 1, 0},
                               {"x is:", label, 0, 0},
                               {"D. foo", label, 0, 0},
                               {"(B)", label, 1, 0},
                               {"- repack", label, 0, 0},
                               {"2. B, since A", label, 0, 0},
                               {"B_", label, 1, 0},  // no letter alone, but it begins with B
                               {"答案B", label, 0, 0}});
}

TEST(InfiniteBench, Choice) {
  const json label = {"Snowfield", "C"};
  expect_scores("longbook_choice_eng", {{"", label, 0, 0},
                                        {"C. Snowfield", label, 1, 1},
                                        {"A. no, C", label, 1, 0},
                                        {"Snowfield", label, 1, 1},
                                        {"snowfield", label, 0, 0},
                                        {"Cats are", label, 1, 1},
                                        {"A man in Snowfield", label, 0, 0},
                                        {"The answer is Snowfield", label, 1, 1},
                                        {"answer is:", label, 0, 0},
                                        {"Answer: Snowfield", label, 0, 0},
                                        {"I pick CD", label, 0, 0},
                                        {"(C)", label, 1, 0},
                                        {"A\nC", label, 0, 0},
                                        {"C\nA", label, 1, 1},
                                        {"Dear reader, C", label, 1, 0}});
}

TEST(InfiniteBench, Dialogue) {
  expect_scores("longdialogue_qa_eng", {{"palace", {"ACE"}, 1, 0},
                                        {"Remo", {"GAGGI", "Remo"}, 1, 0},
                                        {"STAMP PAID", {"STAMP PAID"}, 1, 0},
                                        {"It is Ace.", {"ACE"}, 1, 1}});
}

TEST(InfiniteBench, Retrieval) {
  expect_scores("passkey", {{" 71432.", {"71432"}, 1, 1},
                            {"071432", {"71432"}, 0, 0},
                            {"71,432", "71432", 0, 0},
                            {"71432", 71432, 0, 0}});
  expect_scores(
      "kv_retrieval",
      {{"\"a-1\": b", {"a-1"}, 1, 0}, {"\"a-1\": b", "a-1", 1, 1}, {"(a-1)", "a-1", 0, 0}});
}

TEST(InfiniteBench, Numbers) {
  expect_scores("code_run", {{"24.", 24, 1, 1},
                             {"24.0", 24, 0, 0},
                             {"24.0", 0, 1, 1},
                             {"returns -3", -3, 1, 1},
                             {"= 4)", 4, 0, 0},
                             {"4,", 4, 0, 0},
                             {"+4", 4, 1, 1},
                             {"1_0", 10, 1, 1},
                             {"1__0", 10, 0, 0},
                             {"\u22123", -3, 0, 0},
                             {"`4`.", {"4"}, 1, 1}});
  expect_scores("math_find", {{"-5", 5, 1, 1},
                              {"48", 48.0, 1, 1},
                              {"48", "48.0", 1, 1},
                              {"88.", 88, 1, 1},
                              {"1,234", 1, 1, 1},
                              {"88.5", 88, 0, 0},
                              {"none", 88, 0, 0}});
  expect_scores("math_calc", {{"[1, 4, 8]", {4, 8}, 0, 0},
                              {"4, -8", {4, 8}, 1, 1},
                              {"04", {4, 8}, 0.5, 0.5},
                              {"4 8", json::parse("[[4, 8]]"), 1, 1}});
  EXPECT_EQ(score("math_calc", "[1, 4, 8]", {4, 8}, InfiniteBenchScorer::v2, true), 1.0);
}

TEST(InfiniteBench, Questions) {
  expect_scores("longbook_qa_eng", {{"Peyton", {"\"Peyton\""}, 1, 1},
                                    {"the The a", {"an"}, 0, 0},
                                    {"co-op in U.S.A.", {"coop USA"}, 0.8, 0.8},
                                    {"a b b", {"b b c", "b"}, 0.8, 0.8}});
  expect_scores("longbook_qa_chn", {{"胡一刀、马行空。", {"胡一刀, 马行空"}, 1, 1},
                                    {"《书》A b", {"书ab"}, 6.0 / 7, 6.0 / 7},
                                    {"刀刀", {"刀一刀", "刀"}, 0.8, 0.8}});
}

TEST(InfiniteBench, Summary) {
  const struct {
    const char *prediction, *reference;
    double f1;
  } cases[] = {{"the cat sat\nthe dog ran", "the dog ran fast\nthe cat sat down", 6.0 / 7},
               {"", "a", 0},
               {"---", "a b", 0},
               {"A. B!\n\n", "a b", 1},
               {"Café 3.5", "caf 3 5", 1},
               {"b a\nc b", "a b c", 4.0 / 7},
               {"a b c d", "b a d c", 0.5},
               {"a b c a", "c a b\na c", 2.0 / 3},
               {"x y\nx y", "x y", 2.0 / 3}};
  for (const auto& c : cases) {
    EXPECT_DOUBLE_EQ(rouge_lsum(c.prediction, c.reference), c.f1) << c.prediction;
    EXPECT_DOUBLE_EQ(score("longbook_sum_eng", c.prediction, {"zzz", c.reference}), c.f1);
  }
}

TEST(InfiniteBench, RefusesLabelsOfAnotherForm) {
  EXPECT_THROW(score("code_debug", "B", {"repack"}), Error);
  EXPECT_THROW(score("longbook_choice_eng", "B", 3), Error);
  EXPECT_THROW(score("math_find", "3", {"three"}), Error);
  EXPECT_THROW(score("math_calc", "3", json::array()), Error);
  EXPECT_THROW(score("code_run", "3", json::array()), Error);
  EXPECT_THROW(score("longbook_qa_eng", "3", {1, 2}), Error);
  EXPECT_EQ(find_infinitebench_task("longbook_qa"), nullptr);
}

}  // namespace
}  // namespace fastkv
