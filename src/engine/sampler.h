#pragma once

#include <random>
#include <span>
#include <vector>

#include "fastkv/engine.h"
#include "ops/draw.h"

namespace fastkv {

/// Draws tokens from logits; the same seed and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const Sampling& sampling);
  /// Whether it always takes the token with the highest logit, whatever came before.
  bool greedy() const { return sampling_.temperature == 0.0 && !looks_back(); }
  /// Whether earlier tokens matter: then next() is not all that a device needs to know.
  bool looks_back() const { return sampling_.repeat_penalty != 1.0; }
  /// How to draw the next token, with a random number of its own.
  DrawSettings next();
  /// Draws the next token here. `logits` (V); `history`: tokens that the repeat penalty looks at.
  TokenId draw(std::vector<float> logits, std::span<const TokenId> history);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
};

}  // namespace fastkv
