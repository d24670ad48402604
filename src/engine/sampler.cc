#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace fastkv {
namespace {

struct Candidate {
  TokenId id;
  double weight;  // probability, not normalised
};

/// Candidates of which only as many are put in order, likeliest first, as somebody looks at: mostly
/// a few of a hundred thousand. Of equal weights the lower id comes first.
class Ranking {
 public:
  explicit Ranking(std::vector<Candidate> candidates) : candidates_(std::move(candidates)) {}

  std::size_t size() const { return candidates_.size(); }
  const Candidate& operator[](std::size_t i) {
    if (i >= sorted_) sort(std::max(i + 1, 16 * sorted_));
    return candidates_[i];
  }
  /// Only the first `count` stay.
  void keep(std::size_t count) {
    if (count >= size()) return;
    sort(count);
    candidates_.resize(count);
  }
  double total() const {
    double sum = 0.0;
    for (const Candidate& c : candidates_) sum += c.weight;
    return sum;
  }

 private:
  void sort(std::size_t count) {
    if (count <= sorted_) return;
    const auto likelier = [](const Candidate& a, const Candidate& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
    };
    const auto at = [&](std::size_t i) {
      return candidates_.begin() + static_cast<std::ptrdiff_t>(i);
    };
    count = std::min(std::max<std::size_t>(count, 64), size());
    if (count < size()) std::nth_element(at(sorted_), at(count), candidates_.end(), likelier);
    std::sort(at(sorted_), at(count), likelier);
    sorted_ = count;
  }

  std::vector<Candidate> candidates_;
  std::size_t sorted_ = 0;
};

/// How many of the likeliest make up share `p` of all.
std::size_t count_of_share(Ranking& ranking, double p) {
  const double wanted = p * ranking.total();
  double sum = 0.0;
  std::size_t count = 0;
  while (count < ranking.size() && sum < wanted) sum += ranking[count++].weight;
  return std::max<std::size_t>(count, 1);
}

}  // namespace

Sampler::Sampler(const Sampling& sampling)
    : sampling_(sampling), random_(static_cast<std::uint64_t>(sampling.seed)) {}

TokenId Sampler::draw(std::vector<float> logits, std::span<const TokenId> history) {
  if (sampling_.repeat_penalty != 1.0) {
    std::vector<bool> seen(logits.size());
    const auto penalty = static_cast<float>(sampling_.repeat_penalty);
    for (const TokenId id : history) {
      if (seen[static_cast<std::size_t>(id)]) continue;
      seen[static_cast<std::size_t>(id)] = true;
      float& logit = logits[static_cast<std::size_t>(id)];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (sampling_.temperature == 0.0) return static_cast<TokenId>(best - logits.begin());

  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  // Below 2^-53 of the likeliest a token cannot be drawn: the random number has 53 bits.
  const double least = std::max(sampling_.min_p, 0x1.0p-53);
  const double lowest = *best + sampling_.temperature * std::log(least);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (static_cast<double>(logits[i]) < lowest) continue;
    const double weight =
        std::exp((static_cast<double>(logits[i]) - *best) / sampling_.temperature);
    candidates.push_back({static_cast<TokenId>(i), weight});
  }
  Ranking ranking(std::move(candidates));
  if (sampling_.top_k > 0) ranking.keep(static_cast<std::size_t>(sampling_.top_k));
  if (sampling_.top_p < 1.0) ranking.keep(count_of_share(ranking, sampling_.top_p));

  // Own conversion to [0, 1): the standard distributions differ between libraries.
  double at = static_cast<double>(random_() >> 11) * 0x1.0p-53 * ranking.total();
  for (std::size_t i = 0; i < ranking.size(); ++i) {
    at -= ranking[i].weight;
    if (at < 0) return ranking[i].id;
  }
  return ranking[ranking.size() - 1].id;
}

}  // namespace fastkv
