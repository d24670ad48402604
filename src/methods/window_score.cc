#include "methods/window_score.h"

namespace fastkv {

Tensor WindowScore::score(const LayerView& layer, std::int64_t group) const {
  const std::int64_t n = layer.q.rows();
  const std::int64_t heads = layer.q.shape[1];
  Device& device = layer.device;
  Tensor sums = device.empty(DType::f32, {heads, n});
  device.column_sums({.q = layer.q,
                      .k = layer.k,
                      .positions = layer.positions,
                      .rows = window,
                      .row_weights = {},
                      .sliding_window = layer.sliding_window,
                      .log_sum_exp = layer.log_sum_exp,
                      .out = sums});
  // The window itself is kept anyway: its columns neither compete nor raise their neighbours.
  Tensor pooled = device.empty(DType::f32, {heads, n});
  device.pool(sums, n - window, static_cast<int>(kernel),
              pooling == "maxpool" ? Pooling::max : Pooling::average, pooled);
  if (group == 1) return pooled;
  Tensor grouped = device.empty(DType::f32, {heads / group, n});
  device.sum_groups(pooled, group, grouped);
  return grouped;
}

std::int64_t layer_for(const ModelShape& shape, std::span<const PublishedLayer> published) {
  for (const PublishedLayer& p : published) {
    if (p.layers == shape.layers && p.hidden_size == shape.hidden_size) return p.layer;
  }
  return shape.layers * published.front().layer / published.front().layers;
}

void check_layer(std::string_view option, std::int64_t layer, const ModelShape& shape) {
  if (layer < 0 || layer >= shape.layers) {
    fail("--{} {} is outside the model, which has layers 0 to {}", option, layer, shape.layers - 1);
  }
}

}  // namespace fastkv
