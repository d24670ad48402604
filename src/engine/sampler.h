#pragma once

#include <random>
#include <span>
#include <vector>

#include "fastkv/engine.h"

namespace fastkv {

/// Draws tokens from logits; the same seed and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const Sampling& sampling);
  /// Whether it always takes the token with the highest logit, whatever came before.
  bool greedy() const { return sampling_.temperature == 0.0 && sampling_.repeat_penalty == 1.0; }
  /// `logits` (V); `history`: tokens that the repeat penalty looks at.
  TokenId draw(std::vector<float> logits, std::span<const TokenId> history);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
};

}  // namespace fastkv
