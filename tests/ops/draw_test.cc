#include "ops/draw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/op_test.h"

namespace fastkv::test {
namespace {

constexpr std::uint64_t last_random = ~std::uint64_t{0};
constexpr float infinity = std::numeric_limits<float>::infinity();

class Draw : public OpTest {
 protected:
  /// One token for each row of `logits` (settings.size(), V).
  std::vector<std::int32_t> draw(Device& device, const std::vector<float>& logits,
                                 const std::vector<DrawSettings>& settings) {
    const auto n = static_cast<std::int64_t>(settings.size());
    Padded x(device, DType::f32, {n, static_cast<std::int64_t>(logits.size()) / n}),
        out(device, DType::i32, {n}, 0);
    put(device, x, logits);
    const Tensor of_rows = device.empty(DType::i32, {n, Device::draw_ints});
    device.upload(settings.data(), of_rows);
    device.draw(x, of_rows, out);
    return get_ints(device, out);
  }
  std::int32_t draw_one(Device& device, const std::vector<float>& logits,
                        const DrawSettings& settings) {
    return draw(device, logits, std::vector{settings}).front();
  }
  std::uint64_t any_number() { return std::uint64_t{random_()} << 32 | std::uint64_t{random_()}; }
  /// Few different values, so that many are equal.
  std::vector<float> coarse(std::int64_t count, float deviation) {
    auto x = normal(count, deviation);
    for (float& value : x) value = std::round(value * 8) / 8;
    return x;
  }
};
INSTANTIATE_FOR_DEVICES(Draw);

/// Tokens that may be drawn, in order, and their weights, by sorting everything.
struct Sorted {
  std::vector<std::int32_t> ids;
  std::vector<double> weights;
  double total() const { return std::accumulate(weights.begin(), weights.end(), 0.0); }
};

Sorted sorted(const std::vector<float>& logits, const DrawSettings& s) {
  Sorted result;
  auto& ids = result.ids;
  ids.resize(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  for (const std::int32_t id : ids) {
    const double weight =
        std::exp((static_cast<double>(logits[id]) - logits[ids.front()]) / s.temperature);
    if (weight < s.min_p) break;
    if (s.top_k > 0 && result.weights.size() == static_cast<std::size_t>(s.top_k)) break;
    result.weights.push_back(weight);
  }
  const double share = s.top_p * result.total();
  double sum = 0;
  std::size_t count = 0;
  while (count < result.weights.size() && (count == 0 || sum < share))
    sum += result.weights[count++];
  result.weights.resize(count);
  ids.resize(count);
  return result;
}

/// Whether a random number leads to `id`, with room for rounding.
testing::AssertionResult leads_to(std::int32_t id, const std::vector<float>& logits,
                                  const DrawSettings& s) {
  const Sorted reference = sorted(logits, s);
  const double total = reference.total();
  const double at = static_cast<double>(s.random) * 0x1p-64 * total;
  double sum = 0;
  for (std::size_t i = 0; i < reference.ids.size(); ++i) {
    const double end = sum + reference.weights[i];
    if (reference.ids[i] == id) {
      if (sum - 1e-5 * total <= at && at <= end + 1e-5 * total) return testing::AssertionSuccess();
      return testing::AssertionFailure() << id << " lies at " << sum << " to " << end << " of "
                                         << total << ", and " << at << " was asked for";
    }
    sum = end;
  }
  return testing::AssertionFailure() << id << " is not among the " << reference.ids.size();
}

std::vector<DrawSettings> many_settings() {
  std::vector<DrawSettings> all;
  for (const double temperature : {0.05, 0.7, 1.0, 4.0, 100.0}) {
    for (const std::int64_t top_k : {0, 1, 5, 700, 1 << 30}) {
      for (const double top_p : {1e-12, 0.3, 0.93, 1.0}) {
        for (const double min_p : {0.0, 0.03})
          all.push_back(
              {.temperature = temperature, .min_p = min_p, .top_k = top_k, .top_p = top_p});
      }
    }
  }
  return all;
}

TEST_P(Draw, AgreesWithSortingEverything) {
  const auto device = make();
  for (const std::int64_t columns : {1, 2, 31, 1000, 4097}) {
    for (DrawSettings s : many_settings()) {
      // Multiples of an eighth, so that no share ends where two tokens meet but for rounding.
      const auto logits = coarse(columns, 3);
      s.top_p *= 1 - 1e-4 * std::uniform_real_distribution()(random_);
      s.random = any_number();
      EXPECT_TRUE(leads_to(draw_one(*device, logits, s), logits, s))
          << columns << " columns, temperature " << s.temperature << ", top_k " << s.top_k
          << ", top_p " << s.top_p << ", min_p " << s.min_p;
    }
  }
}

TEST_P(Draw, EqualsTheSpecificationInEveryRow) {
  const auto device = make();
  for (const std::int64_t columns : {1, 33, 512, 5003, 128256, 140001}) {
    for (const float deviation : {0.0F, 0.01F, 2.5F, 40.0F}) {
      auto settings = many_settings();
      // Every row of small shapes, more than are worked on at a time; some of large ones.
      if (columns > 10000) {
        std::shuffle(settings.begin(), settings.end(), random_);
        settings.resize(12);
      }
      settings.push_back({});  // greedy
      std::vector<float> logits;
      std::vector<std::int32_t> expected;
      for (DrawSettings& s : settings) {
        s.random = any_number();
        const auto row = whole(0, 1) == 0 ? normal(columns, deviation) : coarse(columns, deviation);
        logits.insert(logits.end(), row.begin(), row.end());
        expected.push_back(draw_token(row, s));
      }
      EXPECT_EQ(draw(*device, logits, settings), expected) << columns << " " << deviation;
    }
  }
}

TEST_P(Draw, FirstAndLastOfTheOrder) {
  const auto device = make();
  for (const std::int64_t columns : {40, 128256}) {
    std::vector<float> logits(static_cast<std::size_t>(columns), -2);
    const std::int64_t end = columns - 1;
    // In order: 7, end - 3, then 3, 20 and end, then all others by id.
    for (const std::int64_t id : {std::int64_t{7}, end - 3}) logits[id] = 1;
    for (const std::int64_t id : {std::int64_t{3}, std::int64_t{20}, end}) logits[id] = 0.5;
    const auto drawn = [&](DrawSettings s, std::uint64_t number) {
      s.random = number;
      return std::int64_t{draw_one(*device, logits, s)};
    };
    EXPECT_EQ(drawn({.temperature = 1}, 0), 7);
    EXPECT_EQ(drawn({.temperature = 1}, last_random), end - 1);
    EXPECT_EQ(drawn({.temperature = 100}, last_random), end - 1);
    // Nobody else has any probability, or is near enough.
    EXPECT_EQ(drawn({.temperature = 1e-300}, last_random), end - 3);
    EXPECT_EQ(drawn({.temperature = 1, .min_p = 1}, last_random), end - 3);
    EXPECT_EQ(drawn({.temperature = 1, .top_p = 1e-300}, last_random), 7);
    // A cut between equal logits keeps the lower ids.
    const std::int64_t order[] = {7, end - 3, 3, 20, end, 0, 1, 2, 4, 5, 6, 8};
    for (std::int64_t k = 1; k <= 12; ++k)
      EXPECT_EQ(drawn({.temperature = 1, .top_k = k}, last_random), order[k - 1]) << k;
    // Of the five first, with weights 1 and e^-0.5: 2 / 3.82 = 0.52, 2.61 / 3.82 = 0.68.
    EXPECT_EQ(drawn({.temperature = 1, .top_k = 5, .top_p = 0.52}, last_random), end - 3);
    EXPECT_EQ(drawn({.temperature = 1, .top_k = 5, .top_p = 0.54}, last_random), 3);
    EXPECT_EQ(drawn({.temperature = 1, .top_k = 5, .top_p = 0.70}, last_random), 20);
    EXPECT_EQ(drawn({.temperature = 1, .top_k = 5, .top_p = 0.9999}, last_random), end);
    EXPECT_EQ(drawn({.temperature = 1, .min_p = 0.6}, last_random), end);
    // Temperature 0 looks at nothing else.
    EXPECT_EQ(drawn({.top_k = 5}, last_random), 7);
  }
}

TEST_P(Draw, NeverATokenOfNoProbability) {
  const auto device = make();
  std::vector<float> logits(3000, -infinity);
  logits[11] = -3;
  logits[2000] = -3.5;
  for (const double temperature : {1e-3, 1.0, 100.0}) {
    DrawSettings s{.temperature = temperature, .top_k = 100};
    EXPECT_EQ(draw_one(*device, logits, s), 11);
    s.random = last_random;
    EXPECT_EQ(draw_one(*device, logits, s), temperature < 0.01 ? 11 : 2000);
  }
  const std::vector<float> nothing(3000, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(draw_one(*device, nothing, {.temperature = 1}), 0);
}

TEST_P(Draw, AsOftenAsProbable) {
  const auto device = make();
  constexpr int draws = 20000;
  const auto one = coarse(60, 1.5F);
  std::vector<float> logits;
  for (int i = 0; i < draws; ++i) logits.insert(logits.end(), one.begin(), one.end());
  for (const DrawSettings& s : {DrawSettings{.temperature = 1},
                                {.temperature = 1.5, .min_p = 0.02, .top_k = 40, .top_p = 0.9}}) {
    std::vector<DrawSettings> settings(draws, s);
    for (DrawSettings& row : settings) row.random = any_number();
    std::vector<int> counts(one.size());
    for (const std::int32_t id : draw(*device, logits, settings)) ++counts[id];
    const Sorted expected = sorted(one, s);
    double chi_square = 0;
    int all = 0;
    for (std::size_t i = 0; i < expected.ids.size(); ++i) {
      const double mean = draws * expected.weights[i] / expected.total();
      chi_square += std::pow(counts[expected.ids[i]] - mean, 2) / mean;
      all += counts[expected.ids[i]];
    }
    EXPECT_EQ(all, draws) << "something else was drawn";
    // Mean and variance of the chi-square distribution are the degrees of freedom and twice that.
    const double freedom = static_cast<double>(expected.ids.size()) - 1;
    EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom));
  }
}

TEST_P(Draw, RecordingReadsLogitsAndSettingsThatCameLater) {
  const auto device = make();
  Padded x(*device, DType::f32, {3, 9000}), out(*device, DType::i32, {3}, 0);
  const Tensor settings = device->empty(DType::i32, {3, Device::draw_ints});
  std::vector<DrawSettings> of_rows(3);
  put(*device, x, normal(3 * 9000));
  device->upload(of_rows.data(), settings);
  const auto recording = device->record([&] { device->draw(x, settings, out); });
  for (int step = 0; step < 5; ++step) {
    const auto logits = normal(3 * 9000, 2);
    of_rows = {{.temperature = 1, .random = any_number()},
               {},
               {.temperature = 0.8, .top_k = 50, .top_p = 0.9, .random = any_number()}};
    put(*device, x, logits);
    device->upload(of_rows.data(), settings);
    recording->replay();
    std::vector<std::int32_t> expected;
    for (std::size_t row = 0; row < 3; ++row)
      expected.push_back(draw_token(std::span(logits).subspan(row * 9000, 9000), of_rows[row]));
    EXPECT_EQ(get_ints(*device, out), expected);
  }
}

}  // namespace
}  // namespace fastkv::test
