#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

namespace fastkv::test {
namespace {

std::vector<float> random_logits(std::size_t count, unsigned seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(count);
  // Few different values, so that some are equal.
  for (float& x : logits) x = std::round(normal(random) * 8) / 8;
  return logits;
}

/// What may be drawn and how probable it is, by sorting everything.
std::map<TokenId, double> distribution(const std::vector<float>& logits, const Sampling& s) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  std::stable_sort(ids.begin(), ids.end(), [&](auto a, auto b) { return logit(a) > logit(b); });
  const auto weight = [&](TokenId id) {
    return std::exp((static_cast<double>(logit(id)) - logit(ids.front())) / s.temperature);
  };
  std::erase_if(ids, [&](TokenId id) { return weight(id) < s.min_p; });
  if (s.top_k > 0 && ids.size() > static_cast<std::size_t>(s.top_k))
    ids.resize(static_cast<std::size_t>(s.top_k));
  const auto total = [&] {
    return std::accumulate(ids.begin(), ids.end(), 0.0,
                           [&](double sum, TokenId id) { return sum + weight(id); });
  };
  const double all = total();
  double sum = 0;
  std::size_t count = 0;
  while (count < ids.size() && (count == 0 || sum < s.top_p * all)) sum += weight(ids[count++]);
  ids.resize(count);
  std::map<TokenId, double> result;
  const double kept = total();
  for (const TokenId id : ids) result[id] = weight(id) / kept;
  return result;
}

TEST(Sampler, DrawsFromTheDistributionThatWasAskedFor) {
  struct Case {
    double temperature, top_p, min_p;
    int top_k;
  };
  for (const Case& c : {Case{1, 1, 0, 0}, Case{0.7, 0.9, 0, 0}, Case{1.5, 1, 0.2, 0},
                        Case{1, 1, 0, 3}, Case{1, 0.5, 0.01, 20}, Case{2, 0.999, 0, 0}}) {
    SCOPED_TRACE(testing::Message()
                 << c.temperature << " " << c.top_p << " " << c.min_p << " " << c.top_k);
    Sampling s;
    s.temperature = c.temperature;
    s.top_p = c.top_p;
    s.min_p = c.min_p;
    s.top_k = c.top_k;
    s.seed = 3;
    const auto logits = random_logits(300, 5, 2);
    const auto expected = distribution(logits, s);
    Sampler sampler(s);
    constexpr int draws = 20000;
    std::map<TokenId, int> drawn;
    for (int i = 0; i < draws; ++i) ++drawn[sampler.draw(logits, {})];
    for (const auto& [id, count] : drawn) EXPECT_TRUE(expected.contains(id)) << id;
    for (const auto& [id, p] : expected) {
      EXPECT_NEAR(drawn[id], p * draws, 5 * std::sqrt(p * draws) + 1) << id;
    }
  }
}

TEST(Sampler, SameSeedSameTokens) {
  Sampling s;
  s.temperature = 1;
  s.seed = 11;
  Sampler one(s), other(s);
  s.seed = 12;
  Sampler different(s);
  int equal = 0;
  for (unsigned i = 0; i < 50; ++i) {
    const auto logits = random_logits(1000, i, 1);
    const TokenId token = one.draw(logits, {});
    EXPECT_EQ(token, other.draw(logits, {}));
    equal += token == different.draw(logits, {}) ? 1 : 0;
  }
  EXPECT_LT(equal, 25);
}

TEST(Sampler, PenaltyMakesWhatOccurredLessLikely) {
  Sampling s;
  s.temperature = 0;
  s.repeat_penalty = 2;
  Sampler sampler(s);
  EXPECT_EQ(sampler.draw({1, 3, 2}, {}), 1);
  const TokenId seen = 1;
  EXPECT_EQ(sampler.draw({1, 3, 2}, {&seen, 1}), 2);
  EXPECT_EQ(sampler.draw({-3, -1, -1.5}, {&seen, 1}), 2);
}

}  // namespace
}  // namespace fastkv::test
