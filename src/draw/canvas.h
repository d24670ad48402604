#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// What pictures are made of. Charts draw on a Canvas and do not know which kind it is.

namespace fastkv {

struct Color {
  std::uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};
inline constexpr Color black{33, 37, 41};
inline constexpr Color grey{108, 117, 125};
inline constexpr Color light_grey{222, 226, 230};
inline constexpr Color white{255, 255, 255};

struct Point {
  double x = 0.0, y = 0.0;
};

struct TextStyle {
  enum class Anchor { start, middle, end };
  double size = 12.0;  // em, in units
  Color color = black;
  Anchor anchor = Anchor::start;
  bool bold = false;
  bool upwards = false;  // turned by a quarter to the left
};

/// Origin at the top left, y downwards, in units of one SVG pixel.
class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void rect(Point corner, double width, double height, Color fill) = 0;
  /// A polyline.
  virtual void line(std::span<const Point> points, double width, Color color) = 0;
  virtual void dot(Point center, double radius, Color color) = 0;
  /// `at` is on the baseline, at the text's start, middle or end.
  virtual void text(Point at, std::string_view text, const TextStyle& style) = 0;

  void line(Point from, Point to, double width, Color color) {
    const Point points[] = {from, to};
    line(points, width, color);
  }
};

/// How much room a text takes, near enough for both kinds of canvas.
double text_width(std::string_view text, double size);

class SvgCanvas : public Canvas {
 public:
  SvgCanvas(double width, double height);
  using Canvas::line;
  void rect(Point corner, double width, double height, Color fill) override;
  void line(std::span<const Point> points, double width, Color color) override;
  void dot(Point center, double radius, Color color) override;
  void text(Point at, std::string_view text, const TextStyle& style) override;
  /// The finished <svg> element.
  std::string finish() const { return body_ + "</svg>\n"; }

 private:
  std::string body_;
};

class PngCanvas : public Canvas {
 public:
  PngCanvas(double width, double height, double scale);
  using Canvas::line;
  void rect(Point corner, double width, double height, Color fill) override;
  void line(std::span<const Point> points, double width, Color color) override;
  void dot(Point center, double radius, Color color) override;
  void text(Point at, std::string_view text, const TextStyle& style) override;
  /// The bytes of the PNG file.
  std::string finish() const;

 private:
  struct Stroke {
    Point from, to;
  };
  void blend(std::int64_t x, std::int64_t y, double share, Color color);
  /// All strokes as one shape: where they overlap nothing is painted twice. In pixels.
  void paint(std::span<const Stroke> strokes, double width, Color color);

  double scale_;
  std::int64_t width_, height_;       // pixels
  std::vector<std::uint8_t> pixels_;  // (height, width, 3)
};

}  // namespace fastkv
