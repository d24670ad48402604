#pragma once

#include <cmath>
#include <cstdint>
#include <span>

// How tokens are drawn, the same on every device. All sums are of whole numbers, which come out the
// same in any order; only the rounding of exp() may differ between devices, by 1 in 2^40.

#ifdef __CUDACC__
#define FASTKV_HOST_DEVICE __host__ __device__
#else
#define FASTKV_HOST_DEVICE
#endif

namespace fastkv {

/// How one token is drawn from a row of logits. The likeliest token is the first one, of equally
/// likely ones the lower id. Devices read it as it is.
struct DrawSettings {
  double temperature = 0.0;  // 0: the highest logit, whatever the rest says
  double min_p = 0.0;        // only tokens with this share of the first one's probability
  std::int64_t top_k = 0;    // of them, only the first k; 0: all
  double top_p = 1.0;        // of them, only the fewest first ones that make up this probability
  std::uint64_t random = 0;  // chooses one of them, in the order; uniform over all 64-bit numbers
};

/// The lowest column of the highest number; NaN is not the highest. 0 where there is no other.
std::int32_t highest_column(std::span<const float> row);
/// The token that is drawn from `logits` (V).
std::int32_t draw_token(std::span<const float> logits, const DrawSettings& settings);

// What the order and the probabilities are made of.

/// A token's distance below the highest logit is counted in steps of 2^-19 times the temperature,
/// about as fine as float32 is at 16. Tokens of the same distance are equally likely.
constexpr int distance_bits = 24;
constexpr std::uint32_t too_far = 1U << distance_bits;  // e^-32: cannot be drawn

FASTKV_HOST_DEVICE inline double steps_of(double temperature) { return 0x1p19 / temperature; }

/// `steps`: from steps_of().
FASTKV_HOST_DEVICE inline std::uint32_t distance_below(float highest, float logit, double steps) {
  if (logit == highest) return 0;
  const double distance = (static_cast<double>(highest) - static_cast<double>(logit)) * steps;
  return distance < too_far ? static_cast<std::uint32_t>(distance) : too_far;  // also of NaN
}

/// The probability of a token, in units of which the first token has 2^40.
FASTKV_HOST_DEVICE inline std::uint64_t mass_at(std::uint32_t distance) {
  return static_cast<std::uint64_t>(exp(distance * -0x1p-19) * 0x1p40 + 0.5);
}

/// A token of less mass is not drawn.
FASTKV_HOST_DEVICE inline std::uint64_t least_mass(double min_p) {
  const double least = ceil(min_p * 0x1p40);
  return least > 1 ? static_cast<std::uint64_t>(least) : 1;
}

/// How much of `mass` the tokens that top_p keeps must reach.
FASTKV_HOST_DEVICE inline std::uint64_t share_of(std::uint64_t mass, double top_p) {
  if (top_p >= 1) return mass;
  const auto share = static_cast<std::uint64_t>(ceil(top_p * static_cast<double>(mass)));
  return share < 1 ? 1 : share < mass ? share : mass;
}

}  // namespace fastkv
