#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/random.h"

// Pieces that RULER's prompts are put together from.

namespace fastkv {

using Strings = std::vector<std::string>;

/// A line of filling, as often as it takes.
inline constexpr const char* noise_line =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

std::string join(const Strings& parts, std::string_view between);

/// Lines with others put in at random places, each place taken once; the order of `inserted` stays
/// when `in_order`.
Strings insert_lines(Strings lines, const Strings& inserted, bool in_order, Random& random);

}  // namespace fastkv
