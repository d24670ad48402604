#include "eval/selection.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace fastkv {
namespace {

constexpr std::string_view where = "the trace";

std::size_t position(const Json& value, std::int64_t tokens) {
  const std::int64_t at = to_int(value, "a position", where);
  if (at < 0 || at >= tokens)
    fail("{} has position {} in a prompt of {} tokens", where, at, tokens);
  return static_cast<std::size_t>(at);
}

std::vector<bool> marks(const Json& positions, std::int64_t tokens) {
  std::vector<bool> marked(static_cast<std::size_t>(tokens), false);
  for (const Json& p : positions) marked[position(p, tokens)] = true;
  return marked;
}

}  // namespace

TracedSelection read_selection(std::string_view trace) {
  const Json json = parse_json(trace, where);
  TracedSelection s;
  s.method = get_string(json, "method", where);
  s.options = get_object(json, "options", where).dump();
  s.tokens = get_int(json, "prompt_len", where);
  const Json& kept = get_array(json, "kept", where);
  const Json& heads = get_array(json, "kv_heads", where);
  const Json& propagated = get_object(json, "propagated", where);
  // Where the method starts over with chosen tokens, every layer has these and keeps them.
  const bool restarts = kept.empty();
  const auto n = static_cast<std::size_t>(s.tokens);
  std::vector<bool> entered(n, true);
  if (restarts && !propagated.empty()) entered = marks(propagated.begin().value(), s.tokens);
  for (std::size_t i = 0; i < heads.size(); ++i) {
    TracedSelection::Layer layer;
    layer.heads = to_int(heads[i], "kv_heads", where);
    layer.entered = entered;
    layer.kept.assign(n, 0);
    if (restarts || i >= kept.size() || kept[i].is_null()) {
      for (std::size_t t = 0; t < n; ++t) layer.kept[t] = entered[t] ? layer.heads : 0;
    } else {
      for (const Json& head : kept[i]) {
        for (const Json& p : head) ++layer.kept[position(p, s.tokens)];
      }
    }
    const auto next = propagated.find(std::to_string(i));
    layer.propagates = next != propagated.end();
    if (layer.propagates && !restarts) entered = marks(*next, s.tokens);
    s.layers.push_back(std::move(layer));
  }
  return s;
}

double overlap(const TracedSelection::Layer& a, const TracedSelection::Layer& b) {
  double both = 0.0, one = 0.0;
  for (std::size_t t = 0; t < std::min(a.kept.size(), b.kept.size()); ++t) {
    both += a.kept[t] > 0 && b.kept[t] > 0 ? 1.0 : 0.0;
    one += a.kept[t] > 0 || b.kept[t] > 0 ? 1.0 : 0.0;
  }
  return one > 0 ? both / one : 1.0;
}

}  // namespace fastkv
