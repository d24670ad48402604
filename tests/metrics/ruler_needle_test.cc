// RULER's string matches, the needle score and its stemmer.

#include <gtest/gtest.h>

#include <sstream>

#include "core/error.h"
#include "metrics/needle_metric.h"
#include "metrics/ruler_metrics.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using nlohmann::json;
using test::data_dir;
using Strings = std::vector<std::string>;

TEST(RulerMetrics, StringMatch) {
  const Strings references = {"Ab", "cd"};
  EXPECT_EQ(string_match_all("xxaByy", references), 0.5);
  EXPECT_EQ(string_match_part("xxaByy", references), 1.0);
  EXPECT_EQ(string_match_part("", references), 0.0);
  EXPECT_EQ(string_match_all("ÀB", Strings{"àb"}), 1.0);
  EXPECT_THROW(string_match_all("x", {}), Error);
  EXPECT_EQ(ruler_postprocess(" \x01 a\tb\x1f "), "a\nb");
  EXPECT_EQ(ruler_mean(std::vector<double>{1, 0, 0}), 33.33);
  EXPECT_EQ(find_ruler_task("qa_1")->metric, RulerMetric::match_part);
  EXPECT_EQ(find_ruler_task("niah"), nullptr);
  EXPECT_EQ(ruler_tasks().size(), 13U);
}

TEST(RulerMetrics, EqualTheReference) {
  FASTKV_NEEDS_DATA("ruler/metric_golden.jsonl");
  std::size_t checked = 0;
  for (const json& row : test::read_jsonl(data_dir() / "ruler/metric_golden.jsonl")) {
    const Strings raw = row["preds"];
    const auto references = row["refs"].get<std::vector<Strings>>();
    Strings processed;
    for (const std::string& p : raw) processed.push_back(ruler_postprocess(p));
    EXPECT_EQ(processed, row["postprocessed"].get<Strings>());
    const auto mean = [&](RulerMetric metric, const Strings& predictions) {
      std::vector<double> scores;
      for (std::size_t i = 0; i < predictions.size(); ++i) {
        scores.push_back(ruler_sample(metric, predictions[i], references[i]));
      }
      return ruler_mean(scores);
    };
    EXPECT_EQ(mean(RulerMetric::match_all, raw), row["string_match_all"].get<double>());
    EXPECT_EQ(mean(RulerMetric::match_part, raw), row["string_match_part"].get<double>());
    EXPECT_EQ(mean(RulerMetric::match_all, processed),
              row["string_match_all_postprocessed"].get<double>());
    EXPECT_EQ(mean(RulerMetric::match_part, processed),
              row["string_match_part_postprocessed"].get<double>());
    ++checked;
  }
  EXPECT_EQ(checked, 86U);
}

TEST(NeedleScore, CountsStemmedWords) {
  const NeedleScore all = needle_score(default_needle(), default_needle());
  EXPECT_EQ(all.score, 10.0);
  EXPECT_EQ(all.overlap, 21U);
  EXPECT_EQ(needle_score(default_needle(), " \n").score, 0.0);
  const NeedleScore some = needle_score("Eat a sandwich and a cake", "eating sandwiches");
  EXPECT_EQ(some.overlap, 2U);
  EXPECT_EQ(some.precision, 1.0);
  EXPECT_EQ(some.recall, 2.0 / 6);
  EXPECT_EQ(some.score, 5.0);
  EXPECT_EQ(needle_score("was", "wa").overlap, 0U) << "three letters are not stemmed";
}

TEST(NeedleScore, Stems) {
  const struct {
    const char *word, *stem;
  } cases[] = {{"caresses", "caress"},  {"ponies", "poni"},
               {"ties", "tie"},         {"agreed", "agre"},
               {"died", "die"},         {"hopping", "hop"},
               {"falling", "fall"},     {"filing", "file"},
               {"happy", "happi"},      {"say", "say"},
               {"relational", "relat"}, {"rational", "ration"},
               {"formally", "formal"},  {"adjustment", "adjust"},
               {"adoption", "adopt"},   {"controll", "control"},
               {"skies", "sky"},        {"dying", "die"},
               {"geologi", "geolog"},   {"hopefully", "hope"},
               {"used", "use"},         {"by", "by"}};
  for (const auto& c : cases) EXPECT_EQ(porter_stem(c.word), c.stem);
}

TEST(NeedleScore, EqualsTheReference) {
  FASTKV_NEEDS_DATA("haystack/needle_score_golden.jsonl");
  std::size_t checked = 0;
  for (const json& row : test::read_jsonl(data_dir() / "haystack/needle_score_golden.jsonl")) {
    const NeedleScore got =
        needle_score(row["needle"].get<std::string>(), row["response"].get<std::string>());
    EXPECT_NEAR(got.score, row["score"].get<double>(), 1e-12) << row.dump();
    ++checked;
  }
  EXPECT_EQ(checked, 63U);
}

TEST(NeedleScore, StemsEqualTheReference) {
  FASTKV_NEEDS_DATA("haystack/porter_stem_golden.tsv");
  std::istringstream lines(test::read_file(data_dir() / "haystack/porter_stem_golden.tsv"));
  std::size_t checked = 0;
  for (std::string line; std::getline(lines, line); ++checked) {
    const std::size_t tab = line.find('\t');
    EXPECT_EQ(porter_stem(line.substr(0, tab)), line.substr(tab + 1)) << line;
  }
  EXPECT_EQ(checked, 2000U);
}

}  // namespace
}  // namespace fastkv
