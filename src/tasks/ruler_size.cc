#include "tasks/ruler_size.h"

#include <algorithm>

namespace fastkv {

std::int64_t ruler_length(const RulerPrompt& prompt, std::int64_t answer_tokens,
                          const Codec& codec) {
  return codec.count(prompt.context + prompt.question + prompt.answer_prefix) + answer_tokens;
}

std::int64_t fit_ruler_size(const RulerGenerator& generator, const RulerSetting& setting,
                            std::int64_t answer_tokens, std::string_view purpose) {
  const RulerGrowth growth = generator.growth();
  Random random(static_cast<std::uint64_t>(setting.seed), purpose);
  const auto length = [&](std::int64_t size) {
    return ruler_length(generator.draw(random, size, 0), answer_tokens, setting.codec);
  };
  if (growth.every_step) {
    std::int64_t size = growth.low;
    while (length(size) < setting.tokens) size += growth.step;
    return std::max(size - growth.step, growth.least);
  }
  // What a unit adds, without what every prompt has.
  const auto added = static_cast<double>(length(growth.probe) - length(growth.least));
  const double tokens_per_unit =
      std::max(added, 1.0) / static_cast<double>(growth.probe - growth.least);
  const auto estimate = static_cast<double>(setting.tokens) / tokens_per_unit;
  std::int64_t low = growth.low;
  std::int64_t high = std::max(static_cast<std::int64_t>(estimate * growth.headroom), 2 * low);
  std::int64_t best = growth.low;
  while (low <= high) {
    const std::int64_t middle = (low + high) / 2;
    if (length(middle) <= setting.tokens) {
      best = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return best;
}

}  // namespace fastkv
