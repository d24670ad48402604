#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "draw/canvas.h"
#include "fastkv/draw.h"

namespace fastkv {
namespace {

using Anchor = TextStyle::Anchor;
constexpr double label_size = 12.0;
constexpr double plot_width = 520.0, plot_height = 300.0;

/// Told apart by lightness too.
constexpr std::array<Color, 8> palette = {{{0, 90, 160},
                                           {214, 84, 32},
                                           {24, 140, 110},
                                           {150, 60, 150},
                                           {225, 160, 20},
                                           {90, 100, 110},
                                           {90, 180, 225},
                                           {170, 30, 60}}};

/// 1, 2 or 5 times a power of ten, so that about five steps make up `span`.
double nice_step(double span) {
  const double raw = span / 5;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

/// "16K" for 16384 and 16000, as lengths are spoken of.
std::string short_number(double value) {
  if (value >= 1024 && std::fmod(value, 1024) == 0) return fmt::format("{:g}K", value / 1024);
  if (value >= 1000 && std::fmod(value, 1000) == 0) return fmt::format("{:g}K", value / 1000);
  return fmt::format("{:g}", value);
}

struct Axis {
  double low = 0.0, high = 1.0;
  std::vector<double> ticks;
  bool logarithmic = false;

  double share(double value) const {
    if (high <= low) return 0.5;
    if (!logarithmic) return (value - low) / (high - low);
    return std::log(value / low) / std::log(high / low);
  }
};

Axis make_x_axis(const LineChart& chart) {
  std::set<double> values;
  for (const Series& s : chart.series) {
    for (const auto& [x, y] : s.points) values.insert(x);
  }
  Axis axis;
  if (values.empty()) return axis;
  axis.low = *values.begin();
  axis.high = *values.rbegin();
  axis.logarithmic = chart.logarithmic_x && axis.low > 0;
  if (values.size() <= 8) {
    axis.ticks.assign(values.begin(), values.end());
  } else if (axis.logarithmic) {
    for (double t = std::exp2(std::ceil(std::log2(axis.low))); t <= axis.high; t *= 2)
      axis.ticks.push_back(t);
  } else {
    const double step = nice_step(axis.high - axis.low);
    for (double t = std::ceil(axis.low / step) * step; t <= axis.high + step / 1e6; t += step)
      axis.ticks.push_back(t);
  }
  return axis;
}

Axis make_y_axis(const LineChart& chart) {
  double low = INFINITY, high = -INFINITY;
  for (const Series& s : chart.series) {
    for (std::size_t i = 0; i < s.points.size(); ++i) {
      const double error = i < s.errors.size() ? s.errors[i] : 0.0;
      low = std::min(low, s.points[i].second - error);
      high = std::max(high, s.points[i].second + error);
    }
  }
  if (low > high) low = 0.0, high = 1.0;
  // From zero where that does not squeeze the curves.
  if (low > 0 && low < 0.5 * high) low = 0.0;
  if (chart.y_low) low = *chart.y_low;
  if (chart.y_high) high = *chart.y_high;
  if (high <= low) high = low + 1;
  Axis axis;
  const double step = nice_step(high - low);
  axis.low = chart.y_low ? low : std::floor(low / step) * step;
  axis.high = chart.y_high ? high : std::ceil(high / step) * step;
  for (double t = std::ceil(axis.low / step) * step; t <= axis.high + step / 1e6; t += step)
    axis.ticks.push_back(std::abs(t) < step / 1e6 ? 0.0 : t);
  return axis;
}

struct Layout {
  Axis x, y;
  double left, top, right, bottom, legend, width, height;

  explicit Layout(const LineChart& c) : x(make_x_axis(c)), y(make_y_axis(c)) {
    double labels = 0.0, names = 0.0;
    for (const double t : y.ticks)
      labels = std::max(labels, text_width(fmt::format("{:g}", t), label_size));
    for (const Series& s : c.series) names = std::max(names, text_width(s.name, label_size));
    left = 18 + (c.y_label.empty() ? 0 : 24) + labels + 8;
    top = c.subtitle.empty() ? 48 : 66;
    right = left + plot_width;
    bottom = top + std::max(plot_height, 20.0 * static_cast<double>(c.series.size()));
    legend = right + 24;
    width = std::max({c.series.size() < 2 ? right + 24 : legend + 34 + names + 18,
                      18 + text_width(c.title, 16) * 1.05 + 18,
                      18 + text_width(c.subtitle, label_size) + 18});
    height = bottom + 26 + (c.x_label.empty() ? 0 : 24) + 10;
  }
  Point at(std::pair<double, double> value) const {
    // Points at the ends keep a little distance from the frame.
    return {left + 14 + (right - left - 28) * x.share(value.first),
            bottom - (bottom - top) * y.share(value.second)};
  }
};

void draw_axes(Canvas& canvas, const LineChart& c, const Layout& l) {
  for (const double tick : l.y.ticks) {
    const double y = l.at({l.x.low, tick}).y;
    canvas.line({l.left, y}, {l.right, y}, 1, light_grey);
    canvas.text({l.left - 8, y + 4}, fmt::format("{:g}", tick),
                {.size = label_size, .anchor = Anchor::end});
  }
  canvas.line({l.left, l.bottom}, {l.right, l.bottom}, 1, grey);
  double used = -INFINITY;  // a label that would touch the one before it is left out
  for (const double tick : l.x.ticks) {
    const double x = l.at({tick, l.y.low}).x;
    canvas.line({x, l.bottom}, {x, l.bottom + 4}, 1, grey);
    const std::string label = short_number(tick);
    const double half = text_width(label, label_size) / 2;
    if (x - half < used + 6) continue;
    canvas.text({x, l.bottom + 18}, label, {.size = label_size, .anchor = Anchor::middle});
    used = x + half;
  }
  canvas.text({(l.left + l.right) / 2, l.bottom + 42}, c.x_label,
              {.size = label_size, .anchor = Anchor::middle});
  canvas.text({28, (l.top + l.bottom) / 2}, c.y_label,
              {.size = label_size, .anchor = Anchor::middle, .upwards = true});
}

/// How a series looks: groups by colour, the members of one by dots and lines.
struct Look {
  Color color;
  bool hollow = false;
  double width = 2.0;
};
std::vector<Look> looks_of(const std::vector<Series>& series) {
  std::vector<std::string> groups;
  std::vector<Look> looks;
  for (const Series& s : series) {
    auto found = s.group.empty() ? groups.end() : std::find(groups.begin(), groups.end(), s.group);
    if (found == groups.end()) {
      groups.push_back(s.group);
      found = groups.end() - 1;
    }
    const auto place = static_cast<std::size_t>(found - groups.begin());
    const auto member = std::count_if(series.data(), &s, [&](const Series& earlier) {
      return !s.group.empty() && earlier.group == s.group;
    });
    // Where colours are used up, they come again with hollow dots.
    const bool hollow = (static_cast<std::size_t>(member) + place / palette.size()) % 2 == 1;
    looks.push_back({palette[place % palette.size()], hollow, member > 1 ? 1.0 : 2.0});
  }
  return looks;
}

void draw_mark(Canvas& canvas, Point at, const Look& look) {
  canvas.dot(at, 3.5, look.color);
  if (look.hollow) canvas.dot(at, 1.8, white);
}

void draw_series(Canvas& canvas, const Series& s, const Layout& l, const Look& look) {
  std::vector<Point> points;
  for (const auto& value : s.points) points.push_back(l.at(value));
  for (std::size_t i = 0; i < std::min(points.size(), s.errors.size()); ++i) {
    const auto [x, y] = s.points[i];
    const double low = std::min(l.at({x, y - s.errors[i]}).y, l.bottom);
    const double high = std::max(l.at({x, y + s.errors[i]}).y, l.top);
    canvas.line({points[i].x, low}, {points[i].x, high}, 1, look.color);
  }
  if (points.size() > 1) canvas.line(points, look.width, look.color);
  for (const Point& p : points) draw_mark(canvas, p, look);
}

void draw(Canvas& canvas, const LineChart& c, const Layout& l) {
  canvas.text({18, 30}, c.title, {.size = 16, .bold = true});
  canvas.text({18, 50}, c.subtitle, {.size = label_size, .color = grey});
  draw_axes(canvas, c, l);
  const std::vector<Look> looks = looks_of(c.series);
  // The first ones are drawn last, on top of those that have the same values.
  for (std::size_t i = c.series.size(); i-- > 0;) draw_series(canvas, c.series[i], l, looks[i]);
  if (c.series.size() < 2) return;
  for (std::size_t i = 0; i < c.series.size(); ++i) {
    const double y = l.top + 8 + 20.0 * static_cast<double>(i);
    canvas.line({l.legend, y}, {l.legend + 24, y}, looks[i].width, looks[i].color);
    draw_mark(canvas, {l.legend + 12, y}, looks[i]);
    canvas.text({l.legend + 32, y + 4}, c.series[i].name, {.size = label_size});
  }
}

}  // namespace

std::string draw_svg(const LineChart& chart) {
  const Layout layout(chart);
  SvgCanvas canvas(layout.width, layout.height);
  draw(canvas, chart, layout);
  return canvas.finish();
}

std::string draw_png(const LineChart& chart, double scale) {
  const Layout layout(chart);
  PngCanvas canvas(layout.width, layout.height, scale);
  draw(canvas, chart, layout);
  return canvas.finish();
}

}  // namespace fastkv
