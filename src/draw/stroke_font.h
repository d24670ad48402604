#pragma once

#include <string_view>
#include <vector>

#include "draw/canvas.h"

namespace fastkv {

/// A letter as polylines: units of 1/19 em, baseline at y = 0, y upwards.
struct Glyph {
  double advance = 0.0;
  std::vector<std::vector<Point>> lines;
};
inline constexpr double glyph_units_per_em = 19.0;

/// The glyph of a character; an empty box where there is none.
const Glyph& stroke_glyph(char32_t character);

}  // namespace fastkv
