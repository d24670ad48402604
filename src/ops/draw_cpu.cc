#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "ops/cpu_device.h"
#include "ops/draw.h"
#include "ops/parallel.h"

namespace fastkv {
namespace {

struct Candidate {
  std::uint32_t distance;
  std::int32_t id;
  std::uint64_t mass;

  bool operator<(const Candidate& other) const {
    return std::pair(distance, id) < std::pair(other.distance, other.id);
  }
};

std::uint64_t total(std::span<const Candidate> candidates) {
  std::uint64_t sum = 0;
  for (const Candidate& c : candidates) sum += c.mass;
  return sum;
}

/// The place, in order, at which the running mass first exceeds `mass`. Those before it are put
/// before it; nothing else is put in order.
std::size_t first_beyond(std::vector<Candidate>& candidates, std::uint64_t mass) {
  const auto at = [&](std::size_t i) {
    return candidates.begin() + static_cast<std::ptrdiff_t>(i);
  };
  std::size_t begin = 0, end = candidates.size();
  while (end - begin > 64) {
    // Most of the mass is in few tokens, so the first part is the smaller one.
    const std::size_t middle = begin + (end - begin) / 4;
    std::nth_element(at(begin), at(middle), at(end));
    const std::uint64_t first = total({at(begin), at(middle)});
    if (first > mass) {
      end = middle;
    } else {
      mass -= first;
      begin = middle;
    }
  }
  std::sort(at(begin), at(end));
  while (begin + 1 < end && candidates[begin].mass <= mass) mass -= candidates[begin++].mass;
  return begin;
}

/// floor(a * b / 2^64)
std::uint64_t upper_half(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

}  // namespace

std::int32_t highest_column(std::span<const float> row) {
  float highest = -std::numeric_limits<float>::infinity();
  std::size_t column = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i] <= highest || std::isnan(row[i])) continue;
    highest = row[i];
    column = i;
  }
  return static_cast<std::int32_t>(column);
}

std::int32_t draw_token(std::span<const float> logits, const DrawSettings& s) {
  const std::int32_t likeliest = highest_column(logits);
  const float highest = logits[static_cast<std::size_t>(likeliest)];
  if (s.temperature == 0) return likeliest;

  const double steps = steps_of(s.temperature);
  const std::uint64_t least = least_mass(s.min_p);
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::uint32_t distance = distance_below(highest, logits[i], steps);
    if (distance == too_far) continue;
    const std::uint64_t mass = mass_at(distance);
    if (mass >= least) candidates.push_back({distance, static_cast<std::int32_t>(i), mass});
  }
  if (candidates.empty()) return likeliest;  // nothing is a number

  if (s.top_k > 0 && static_cast<std::size_t>(s.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + s.top_k, candidates.end());
    candidates.resize(static_cast<std::size_t>(s.top_k));
  }
  if (s.top_p < 1)
    candidates.resize(1 + first_beyond(candidates, share_of(total(candidates), s.top_p) - 1));
  return candidates[first_beyond(candidates, upper_half(s.random, total(candidates)))].id;
}

void CpuDevice::draw(const View& logits, const View& settings, const View& out) {
  const std::int64_t columns = logits.shape[1];
  parallel_for(threads_for(logits.shape.count()), logits.rows(), [&](std::int64_t row, int) {
    out.as<std::int32_t>()[row] =
        draw_token({logits.row<float>(row), static_cast<std::size_t>(columns)},
                   static_cast<const DrawSettings*>(settings.data)[row]);
  });
}

}  // namespace fastkv
