#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fastkv {
namespace {

struct Candidate {
  TokenId id;
  double weight;  // probability, not normalised
};

/// Drops all but the likeliest candidates (sorted, likeliest first) that make up share `p`.
void keep_top_p(std::vector<Candidate>& candidates, double p) {
  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  double sum = 0.0;
  std::size_t count = 0;
  while (count < candidates.size() && sum < p * total) sum += candidates[count++].weight;
  candidates.resize(std::max<std::size_t>(count, 1));
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
  const double least = sampling_.min_p > 0 ? sampling_.min_p : 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight =
        std::exp((static_cast<double>(logits[i]) - *best) / sampling_.temperature);
    if (weight >= least && weight > 0) candidates.push_back({static_cast<TokenId>(i), weight});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  const auto top_k = static_cast<std::size_t>(sampling_.top_k);
  if (top_k > 0 && candidates.size() > top_k) candidates.resize(top_k);
  if (sampling_.top_p < 1.0) keep_top_p(candidates, sampling_.top_p);

  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  // Own conversion to [0, 1): the standard distributions differ between libraries.
  double at = static_cast<double>(random_() >> 11) * 0x1.0p-53 * total;
  for (const Candidate& c : candidates) {
    at -= c.weight;
    if (at < 0) return c.id;
  }
  return candidates.back().id;
}

}  // namespace fastkv
