#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "draw/canvas.h"
#include "fastkv/draw.h"

namespace fastkv {
namespace {

using Anchor = TextStyle::Anchor;
constexpr double label_size = 12.0;

/// Red, amber, green-blue: the middle is the lightest, so the ends differ without colours too.
Color scale_color(double share) {
  static constexpr std::array<Color, 3> stops = {{{178, 42, 60}, {246, 206, 107}, {31, 148, 130}}};
  const double at = std::clamp(share, 0.0, 1.0) * 2;
  const std::size_t low = at < 1 ? 0 : 1;
  const double t = at - static_cast<double>(low);
  const auto mix = [t](std::uint8_t a, std::uint8_t b) {
    return static_cast<std::uint8_t>(std::lround(a + (b - a) * t));
  };
  const Color& a = stops[low];
  const Color& b = stops[low + 1];
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

/// White where black would be hard to read.
Color ink_on(Color c) { return 0.30 * c.r + 0.59 * c.g + 0.11 * c.b < 140 ? white : black; }

double widest(const std::vector<std::string>& texts, double size) {
  double width = 0.0;
  for (const std::string& text : texts) width = std::max(width, text_width(text, size));
  return width;
}

/// Where everything is; labels decide how much room there must be.
struct Layout {
  double left, top, cell_width, cell_height, right, bottom, width, height;

  explicit Layout(const HeatMap& m) {
    const auto columns = static_cast<double>(std::max<std::size_t>(m.x.size(), 1));
    const auto rows = static_cast<double>(std::max<std::size_t>(m.y.size(), 1));
    // A small grid grows until the names of its axes fit beside it.
    const double least_width = std::max(120.0, text_width(m.x_label, label_size));
    const double least_height = std::max({110.0, text_width(m.y_label, label_size) + 12,
                                          text_width(m.scale_label, label_size) + 12});
    cell_width = std::max(std::clamp(420.0 / columns, 14.0, 60.0), least_width / columns);
    cell_height = std::max(std::clamp(300.0 / rows, 14.0, 30.0), least_height / rows);
    left = 18 + (m.y_label.empty() ? 0 : 24) + widest(m.y, label_size) + 8;
    top = m.subtitle.empty() ? 48 : 66;
    right = left + columns * cell_width;
    bottom = top + rows * cell_height;
    const double legend = 24 + 14 + 6 + 40 + (m.scale_label.empty() ? 0 : 18);
    width = std::max({right + legend + 10, 18 + text_width(m.title, 16) * 1.05 + 18,
                      18 + text_width(m.subtitle, label_size) + 18});
    height = bottom + 26 + (m.x_label.empty() ? 0 : 24) + 10;
  }
};

void draw_scale(Canvas& canvas, const HeatMap& m, const Layout& at) {
  constexpr int steps = 60;
  const double x = at.right + 24;
  const double height = at.bottom - at.top;
  for (int i = 0; i < steps; ++i) {
    // A little overlap: no seams.
    canvas.rect({x, at.top + height * i / steps}, 14,
                std::min(height / steps + 0.5, height - height * i / steps),
                scale_color(1 - (i + 0.5) / steps));
  }
  double label_room = 0.0;
  for (int i = 0; i <= 4; ++i) {
    const double y = at.bottom - height * i / 4;
    const std::string label = fmt::format("{:g}", m.low + (m.high - m.low) * i / 4);
    canvas.line({x + 14, y}, {x + 17, y}, 1, grey);
    canvas.text({x + 21, y + 4}, label, {.size = 11, .color = grey});
    label_room = std::max(label_room, text_width(label, 11));
  }
  if (m.scale_label.empty()) return;
  canvas.text({x + 21 + label_room + 15, (at.top + at.bottom) / 2}, m.scale_label,
              {.size = label_size, .anchor = Anchor::middle, .upwards = true});
}

void draw(Canvas& canvas, const HeatMap& m, const Layout& at) {
  canvas.text({18, 30}, m.title, {.size = 16, .bold = true});
  canvas.text({18, 50}, m.subtitle, {.size = label_size, .color = grey});

  const auto columns = m.x.size();
  for (std::size_t row = 0; row < m.y.size(); ++row) {
    const double y = at.top + static_cast<double>(row) * at.cell_height;
    canvas.text({at.left - 8, y + at.cell_height / 2 + 4}, m.y[row],
                {.size = label_size, .anchor = Anchor::end});
    for (std::size_t column = 0; column < columns; ++column) {
      const double x = at.left + static_cast<double>(column) * at.cell_width;
      const std::optional<double>& value = m.cells.at(row * columns + column);
      const Color fill = value ? scale_color((*value - m.low) / (m.high - m.low)) : light_grey;
      canvas.rect({x + 0.5, y + 0.5}, at.cell_width - 1, at.cell_height - 1, fill);
      const std::string label = value ? fmt::format("{:.0f}", *value) : "";
      if (text_width(label, 11) + 4 > at.cell_width) continue;
      canvas.text({x + at.cell_width / 2, y + at.cell_height / 2 + 4}, label,
                  {.size = 11, .color = ink_on(fill), .anchor = Anchor::middle});
    }
  }
  // As many column names as fit beside each other.
  const double needed = widest(m.x, label_size) + 8;
  const auto every = static_cast<std::size_t>(std::ceil(needed / at.cell_width));
  for (std::size_t column = 0; column < columns; column += every) {
    canvas.text({at.left + (static_cast<double>(column) + 0.5) * at.cell_width, at.bottom + 18},
                m.x[column], {.size = label_size, .anchor = Anchor::middle});
  }
  canvas.text({(at.left + at.right) / 2, at.bottom + 42}, m.x_label,
              {.size = label_size, .anchor = Anchor::middle});
  canvas.text({28, (at.top + at.bottom) / 2}, m.y_label,
              {.size = label_size, .anchor = Anchor::middle, .upwards = true});
  draw_scale(canvas, m, at);
}

}  // namespace

std::string draw_svg(const HeatMap& map) {
  const Layout layout(map);
  SvgCanvas canvas(layout.width, layout.height);
  draw(canvas, map, layout);
  return canvas.finish();
}

std::string draw_png(const HeatMap& map, double scale) {
  const Layout layout(map);
  PngCanvas canvas(layout.width, layout.height, scale);
  draw(canvas, map, layout);
  return canvas.finish();
}

}  // namespace fastkv
