#include "methods/calibration.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/json.h"

namespace fastkv {
std::string describe(const ModelShape& shape) {
  return fmt::format("{} layers of {}, {} query heads and {} KV heads", shape.layers,
                     shape.hidden_size, shape.query_heads, shape.kv_heads);
}

void read_calibration(const std::string& file, const OptionValues& given, const ModelShape& shape,
                      std::string_view layer_option, std::int64_t& layer,
                      std::string_view share_option, double& share) {
  if (given.contains(layer_option))
    fail("--{} is what --calibration sets; leave one of them out", layer_option);
  const Json json = parse_json_file(file);
  const std::string made_for = get_string(json, "model_shape", file);
  if (made_for != describe(shape)) {
    fail("{} was made for a model with {}, this one has {}; run fastkv calibrate on this model",
         file, made_for, describe(shape));
  }
  layer = get_int(json, json_key(layer_option), file);
  const double rate = get_number(json, json_key(share_option), file);
  if (!(rate > 0 && rate <= 1)) fail("{}: \"{}\" must be (0, 1]", file, json_key(share_option));
  if (!given.contains(share_option)) share = rate;
}

}  // namespace fastkv
