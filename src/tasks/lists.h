#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/options.h"

namespace fastkv {

/// Numbers in a text, separated by commas: "4096,8192". Throws Error that names the option.
std::vector<std::int64_t> parse_integers(std::string_view text, Range<std::int64_t> range,
                                         std::string_view option);

}  // namespace fastkv
