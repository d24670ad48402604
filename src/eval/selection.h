#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv {

/// What a trace says, layer by layer, about every token of the prompt.
struct TracedSelection {
  struct Layer {
    std::int64_t heads = 0;          // that are cached
    std::vector<bool> entered;       // (tokens): whether the token came to this layer
    std::vector<std::int64_t> kept;  // (tokens): how many heads keep it
    bool propagates = false;         // chooses which tokens go on
  };
  std::string method, options;  // options: JSON
  std::int64_t tokens = 0;
  std::vector<Layer> layers;
};
/// Throws Error where `trace` is not a trace (docs/trace.md).
TracedSelection read_selection(std::string_view trace);

/// Tokens that any head keeps in both layers, of those that any head keeps in one of them, 0 to 1.
double overlap(const TracedSelection::Layer& a, const TracedSelection::Layer& b);

}  // namespace fastkv
