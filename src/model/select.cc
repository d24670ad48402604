#include "model/select.h"

#include <algorithm>

namespace fastkv {
namespace {

/// Whether `count` of n columns, with so many fixed at both ends, depends on any score.
bool depends_on_score(std::int64_t n, std::int64_t count, std::int64_t first, std::int64_t recent) {
  return count > 0 && count < n && count > first + recent;
}

/// Without scores the choice depends on positions alone: the first tokens and, for the rest, the
/// last.
Tensor choose(Device& device, const View& scores, std::int64_t heads, std::int64_t n,
              std::int64_t count, std::int64_t first, std::int64_t recent) {
  Tensor chosen = device.empty(DType::i32, {heads, count});
  const View unscored(nullptr, DType::f32, {heads, n});
  // The last tokens come before the first ones where there is no room for both.
  recent = std::min(recent, count);
  first = std::min(first, count - recent);
  device.top_k(scores ? scores : unscored, count, first, scores ? recent : count - first, chosen);
  return chosen;
}

}  // namespace

Selection select(const Method& method, const LayerView& layer) {
  const std::int64_t n = layer.q.rows();
  const std::int64_t kv_heads = layer.k.shape[1];
  const Keep keep = method.keep(layer.at);

  Selection s;
  s.go_on = method.go_on(layer.at);
  s.kept_count = std::min(keep.budget, n);
  const bool choose_kept = s.kept_count > 0 && s.kept_count < n;
  s.kept_heads = choose_kept && keep.per_query_head ? layer.q.shape[1] : kv_heads;

  if (choose_kept || s.go_on) s.begin = layer.device.now();
  Tensor scores;
  if (depends_on_score(n, s.kept_count, keep.first, keep.recent) ||
      (s.go_on && depends_on_score(n, s.go_on->tokens, s.go_on->first, s.go_on->recent))) {
    scores = method.score(layer);
  }
  if (choose_kept) {
    s.kept = choose(layer.device, scores, s.kept_heads, n, s.kept_count, keep.first, keep.recent);
  }
  if (s.go_on) {
    Tensor summed;
    if (scores && scores.shape()[0] > 1) {
      summed = layer.device.empty(DType::f32, {1, n});
      layer.device.sum_groups(scores, scores.shape()[0], summed);
    }
    s.going_on = choose(layer.device, summed ? summed : scores, 1, n, s.go_on->tokens,
                        s.go_on->first, s.go_on->recent);
  }
  if (s.begin) s.end = layer.device.now();
  return s;
}

}  // namespace fastkv
