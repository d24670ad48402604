#include "engine/sampler.h"

namespace fastkv {

Sampler::Sampler(const Sampling& sampling)
    : sampling_(sampling), random_(static_cast<std::uint64_t>(sampling.seed)) {}

DrawSettings Sampler::next() {
  return {.temperature = sampling_.temperature,
          .min_p = sampling_.min_p,
          .top_k = sampling_.top_k,
          .top_p = sampling_.top_p,
          .random = random_()};
}

TokenId Sampler::draw(std::vector<float> logits, std::span<const TokenId> history) {
  if (looks_back()) {
    std::vector<bool> seen(logits.size());
    const auto penalty = static_cast<float>(sampling_.repeat_penalty);
    for (const TokenId id : history) {
      if (seen[static_cast<std::size_t>(id)]) continue;
      seen[static_cast<std::size_t>(id)] = true;
      float& logit = logits[static_cast<std::size_t>(id)];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  return draw_token(logits, next());
}

}  // namespace fastkv
