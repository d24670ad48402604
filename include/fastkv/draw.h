#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

// Pictures of results, as SVG for pages and PNG for everything else.

namespace fastkv {

/// A grid of coloured cells, with axes and the scale of colours beside it.
struct HeatMap {
  std::string title, subtitle;
  std::string x_label, y_label, scale_label;
  std::vector<std::string> x, y;             // names of columns and rows, the first row is on top
  std::vector<std::optional<double>> cells;  // (rows, columns); without a value: not measured
  double low = 0.0, high = 100.0;            // values of the ends of the scale
};

/// Points with lines between them.
struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
  std::vector<double> errors;  // of each point's y, drawn as a bar; may be empty
  std::string group;           // series of one group have one colour; empty: a colour of its own
};
struct LineChart {
  std::string title, subtitle, x_label, y_label;
  std::vector<Series> series;
  bool logarithmic_x = false;           // for lengths that double
  std::optional<double> y_low, y_high;  // ends of the axis; otherwise found from the points
};

/// A self-contained <svg> element.
std::string draw_svg(const HeatMap& map);
std::string draw_svg(const LineChart& chart);

/// The bytes of a PNG file, `scale` pixels a unit.
std::string draw_png(const HeatMap& map, double scale = 2.0);
std::string draw_png(const LineChart& chart, double scale = 2.0);

}  // namespace fastkv
