#pragma once

#include <string>

#include "methods/method.h"

namespace fastkv {

/// Attention that the last `window` prompt tokens pay to each earlier one, pooled along the
/// sequence so that neighbours of an important token count too (SnapKV, arXiv 2404.14469).
struct WindowScore {
  std::int64_t window = 8;
  std::int64_t kernel = 7;
  std::string pooling = "maxpool";

  void visit(OptionVisitor& v) {
    v.integer("window", window, {.low = 1, .high = 4096},
              "last prompt tokens that choose and are always kept");
    v.integer("kernel", kernel, {.low = 1, .high = 255}, "pooling width along the sequence, odd");
    v.choice("pooling", pooling, {"maxpool", "avgpool"}, "how neighbouring scores are pooled");
  }
  void check() const {
    if (kernel % 2 == 0) fail("--kernel must be odd, not {}", kernel);
  }
  /// Scores summed over each `group` of consecutive query heads, (Hq / group, n).
  Tensor score(const LayerView& layer, std::int64_t group) const;
};

/// A value that a paper publishes for some models; other models get the same relative depth as the
/// first of them.
struct PublishedLayer {
  std::int64_t layers, hidden_size, layer;
};
std::int64_t layer_for(const ModelShape& shape, std::span<const PublishedLayer> published);

/// Throws Error where `layer` is not one of the model's.
void check_layer(std::string_view option, std::int64_t layer, const ModelShape& shape);

}  // namespace fastkv
