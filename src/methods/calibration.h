#pragma once

#include <string>
#include <string_view>

#include "methods/method.h"

namespace fastkv {

/// "32 layers of 4096, 32 query heads and 8 KV heads", which a calibration holds for.
std::string describe(const ModelShape& shape);

/// Sets `layer` and `share` from the file that calibration wrote for the options of these names; a
/// share that was given stays. Throws Error for a file that cannot be read, was made for another
/// method or a model of another shape, or where the layer was given as well.
void read_calibration(const std::string& file, const OptionValues& given, const ModelShape& shape,
                      std::string_view layer_option, std::int64_t& layer,
                      std::string_view share_option, double& share);

}  // namespace fastkv
