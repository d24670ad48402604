#include "draw/stroke_font.h"

#include <charconv>
#include <map>
#include <utility>

// The project's own letters for PNG pictures: strokes, so that one description serves every size.
// Capitals are 14 units high, small letters 10, descenders reach to -4. In a description M moves,
// L draws a line, Q a quadratic curve (control point, end), and O an ellipse (two corners).

namespace fastkv {
namespace {

struct Row {
  char32_t character;
  double width;
  std::string_view strokes;
};
constexpr double spacing = 3.4;

constexpr Row font[] = {
    {' ', 3, ""},
    {'!', 0.5, "M0 14L0 4.5M0 .3L0 0"},
    {'"', 4, "M0 14L0 10M4 14L4 10"},
    {'#', 10, "M3 13L1 1M9 13L7 1M.5 9L10 9M0 5L9.5 5"},
    {'$', 9,
     "M8.5 10.5Q7.5 12.5 4.5 12.5Q.8 12.5 .8 9.7Q.8 7.6 4.5 7Q8.7 6.3 8.7 3.9Q8.7 1 4.5 1Q1 1 0 "
     "3.5M4.5 15L4.5 -1.5"},
    {'%', 13, "O0 7.5 5.2 14O7.8 0 13 6.5M10.5 14L2.5 0"},
    {'&', 10.5,
     "M10.5 0L2.3 9.2Q1.5 10.1 1.5 11.4Q1.5 14 4 14Q6.6 14 6.6 11.5Q6.6 9.6 3.5 8Q0 6.3 0 3.6Q0 "
     "0 3.8 0Q9 0 9.8 6.5"},
    {'\'', 0.5, "M0 14L0 10"},
    {'(', 3, "M3 15.5Q0 11.5 0 6Q0 .5 3 -3.5"},
    {')', 3, "M0 15.5Q3 11.5 3 6Q3 .5 0 -3.5"},
    {'*', 6, "M3 14L3 8M.3 12.5L5.7 9.5M5.7 12.5L.3 9.5"},
    {'+', 8.5, "M4.25 10L4.25 1.5M0 5.75L8.5 5.75"},
    {',', 1, "M1 .4L1 0L0 -2.8"},
    {'-', 5, "M0 5.5L5 5.5"},
    {'.', 0.5, "M.2 .3L.2 0"},
    {'/', 6, "M6 15L0 -2"},
    {'0', 8.4, "O.2 0 8.2 14"},
    {'1', 8.4, "M1.4 11.2L4.8 14L4.8 0"},
    {'2', 8.4, "M.5 10.6Q.8 14 4.2 14Q7.8 14 7.8 10.6Q7.8 8.2 4.8 5L.3 0L8.2 0"},
    {'3', 8.4,
     "M.5 11.3Q1.2 14 4.1 14Q7.6 14 7.6 10.8Q7.6 7.6 3.4 7.6Q8.2 7.6 8.2 3.8Q8.2 0 4.1 0Q1 0 .2 "
     "2.9"},
    {'4', 8.4, "M6.2 0L6.2 14L0 4L8.4 4"},
    {'5', 8.4, "M7.6 14L1.4 14L.8 7.6Q2.2 9.1 4.2 9.1Q8.2 9.1 8.2 4.6Q8.2 0 4.1 0Q1 0 .2 2.9"},
    {'6', 8.4, "M7.4 13Q6.5 14 4.8 14Q.3 14 .3 5O.3 0 8.1 9"},
    {'7', 8.4, "M.3 14L8.1 14Q3.8 7 3.1 0"},
    {'8', 8.4, "O.9 7.4 7.5 14O.2 0 8.2 7.4"},
    {'9', 8.4, "O.3 5 8.1 14M8.1 9Q8.1 0 3.6 0Q1.9 0 1 1"},
    {':', 0.5, "M.2 9.3L.2 9M.2 .3L.2 0"},
    {';', 1, "M1 9.3L1 9M1 .4L1 0L0 -2.8"},
    {'<', 8, "M8 10.5L0 5.75L8 1"},
    {'=', 8.5, "M0 8L8.5 8M0 3.5L8.5 3.5"},
    {'>', 8, "M0 10.5L8 5.75L0 1"},
    {'?', 7, "M0 11Q.4 14 3.6 14Q7 14 7 10.9Q7 9 5 7.6Q3.5 6.5 3.5 4.5M3.5 .3L3.5 0"},
    {'@', 13,
     "O3.8 3.5 9 9.5M9 9.5L9 5.3Q9 3.5 10.8 3.5Q13 3.5 13 7Q13 13.5 6.6 13.5Q0 13.5 0 6Q0 -2 6.8 "
     "-2Q9 -2 10.5 -1"},
    {'A', 10, "M0 0L5 14L10 0M1.8 5L8.2 5"},
    {'B', 9,
     "M0 0L0 14L4.8 14Q8.4 14 8.4 10.7Q8.4 7.4 4.8 7.4L0 7.4M4.8 7.4Q9.2 7.4 9.2 3.7Q9.2 0 4.8 "
     "0L0 0"},
    {'C', 10, "M10 11Q8.6 14 5.3 14Q0 14 0 7Q0 0 5.3 0Q8.6 0 10 3"},
    {'D', 10, "M0 0L0 14L4 14Q10 14 10 7Q10 0 4 0L0 0"},
    {'E', 8, "M8 14L0 14L0 0L8 0M0 7.3L7 7.3"},
    {'F', 8, "M8 14L0 14L0 0M0 7.3L7 7.3"},
    {'G', 10.3, "M10 11Q8.6 14 5.3 14Q0 14 0 7Q0 0 5.3 0Q10.3 0 10.3 6.5L6 6.5"},
    {'H', 9.5, "M0 0L0 14M9.5 0L9.5 14M0 7.3L9.5 7.3"},
    {'I', 0.5, "M.2 0L.2 14"},
    {'J', 6, "M6 14L6 4Q6 0 3 0Q0 0 0 4"},
    {'K', 9, "M0 0L0 14M8.8 14L0 5M3.3 8.3L9.2 0"},
    {'L', 7.5, "M0 14L0 0L7.5 0"},
    {'M', 11, "M0 0L0 14L5.5 3L11 14L11 0"},
    {'N', 9.5, "M0 0L0 14L9.5 0L9.5 14"},
    {'O', 11, "O0 0 11 14"},
    {'P', 9, "M0 0L0 14L5 14Q9 14 9 10.2Q9 6.4 5 6.4L0 6.4"},
    {'Q', 11, "O0 0 11 14M7 4L11 -1"},
    {'R', 9.3, "M0 0L0 14L5 14Q9 14 9 10.2Q9 6.4 5 6.4L0 6.4M5 6.4L9.3 0"},
    {'S', 9.3,
     "M9 11Q8.2 14 4.7 14Q.6 14 .6 10.7Q.6 8 4.7 7.3Q9.3 6.5 9.3 3.6Q9.3 0 4.7 0Q1 0 0 3.2"},
    {'T', 9.6, "M0 14L9.6 14M4.8 14L4.8 0"},
    {'U', 9.6, "M0 14L0 5Q0 0 4.8 0Q9.6 0 9.6 5L9.6 14"},
    {'V', 10, "M0 14L5 0L10 14"},
    {'W', 15, "M0 14L3.7 0L7.5 13L11.3 0L15 14"},
    {'X', 9.5, "M0 14L9.5 0M9.5 14L0 0"},
    {'Y', 10, "M0 14L5 7L10 14M5 7L5 0"},
    {'Z', 9, "M0 14L9 14L0 0L9 0"},
    {'[', 3, "M3 15L0 15L0 -3L3 -3"},
    {'\\', 6, "M0 15L6 -2"},
    {']', 3, "M0 15L3 15L3 -3L0 -3"},
    {'^', 7, "M0 9L3.5 14L7 9"},
    {'_', 9, "M0 -3L9 -3"},
    {'`', 2.5, "M0 14L2.5 11.5"},
    {'a', 8, "O0 0 8 10M8 10L8 0"},
    {'b', 8, "M0 14L0 0O0 0 8 10"},
    {'c', 7.6, "M7.6 8Q6.7 10 4.2 10Q0 10 0 5Q0 0 4.2 0Q6.7 0 7.6 2"},
    {'d', 8, "M8 14L8 0O0 0 8 10"},
    {'e', 8, "M0 5.2L8 5.2Q8 10 4 10Q0 10 0 5Q0 0 4.2 0Q6.8 0 7.7 2"},
    {'f', 5.5, "M5.8 14Q2.6 14 2.6 11L2.6 0M0 10L5.5 10"},
    {'g', 8, "O0 0 8 10M8 10L8 -.5Q8 -4 4 -4Q1.5 -4 .5 -2.5"},
    {'h', 7.6, "M0 14L0 0M0 6Q0 10 3.8 10Q7.6 10 7.6 6L7.6 0"},
    {'i', 0.5, "M.2 10L.2 0M.2 14L.2 13.7"},
    {'j', 2.5, "M2.5 10L2.5 -1.5Q2.5 -4 0 -4M2.5 14L2.5 13.7"},
    {'k', 7, "M0 14L0 0M6.7 10L0 3.8M2.6 6.2L7 0"},
    {'l', 0.5, "M.2 14L.2 0"},
    {'m', 12.4,
     "M0 10L0 0M0 6.5Q0 10 3.1 10Q6.2 10 6.2 6.5L6.2 0M6.2 6.5Q6.2 10 9.3 10Q12.4 10 12.4 6.5L12.4 "
     "0"},
    {'n', 7.6, "M0 10L0 0M0 6Q0 10 3.8 10Q7.6 10 7.6 6L7.6 0"},
    {'o', 8.2, "O0 0 8.2 10"},
    {'p', 8, "M0 10L0 -4O0 0 8 10"},
    {'q', 8, "M8 10L8 -4O0 0 8 10"},
    {'r', 4.5, "M0 10L0 0M0 6Q0 9.8 4.6 9.8"},
    {'s', 7, "M6.7 8Q6.2 10 3.6 10Q.5 10 .5 7.5Q.5 5.6 3.6 5.1Q7 4.5 7 2.5Q7 0 3.6 0Q.5 0 0 2.1"},
    {'t', 5.3, "M2.6 13.5L2.6 3Q2.6 0 5.4 0M0 10L5.3 10"},
    {'u', 7.6, "M0 10L0 4Q0 0 3.8 0Q7.6 0 7.6 4M7.6 10L7.6 0"},
    {'v', 8, "M0 10L4 0L8 10"},
    {'w', 12, "M0 10L3 0L6 9.5L9 0L12 10"},
    {'x', 7.4, "M0 10L7.4 0M7.4 10L0 0"},
    {'y', 8, "M0 10L4.1 0M8 10L3.6 -1.5Q2.6 -4 .2 -4"},
    {'z', 7, "M0 10L7 10L0 0L7 0"},
    {'{', 4, "M4 15Q2 15 2 12L2 9Q2 6 0 6Q2 6 2 3L2 0Q2 -3 4 -3"},
    {'|', 0.5, "M.2 15L.2 -3"},
    {'}', 4, "M0 15Q2 15 2 12L2 9Q2 6 4 6Q2 6 2 3L2 0Q2 -3 0 -3"},
    {'~', 8, "M0 4.5Q1.5 8 4 5.75Q6.5 3.5 8 7"},
    {U'\u00b1', 8.5, "M4.25 12L4.25 4.5M0 8.25L8.5 8.25M0 1L8.5 1"},
    {U'\u00d7', 7, "M0 9L7 2M7 9L0 2"},
    {U'\u2013', 8, "M0 5.5L8 5.5"},
    {U'\u2014', 13, "M0 5.5L13 5.5"},
};
constexpr Row missing = {0, 8, "M0 0L0 14L8 14L8 0L0 0"};

Point along(Point a, Point control, Point b, double t) {
  const double u = 1 - t;
  return {u * u * a.x + 2 * u * t * control.x + t * t * b.x,
          u * u * a.y + 2 * u * t * control.y + t * t * b.y};
}
void add_curve(std::vector<Point>& line, Point control, Point end) {
  constexpr int pieces = 8;
  const Point start = line.back();
  for (int i = 1; i <= pieces; ++i)
    line.push_back(along(start, control, end, static_cast<double>(i) / pieces));
}

/// Reads a description, which the table above has and nobody else writes.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::vector<std::vector<Point>> lines() {
    std::vector<std::vector<Point>> lines;
    while (at_ < text_.size()) {
      switch (text_[at_++]) {
        case 'M':
          lines.push_back({point()});
          break;
        case 'L':
          lines.back().push_back(point());
          break;
        case 'Q': {
          const Point control = point();
          add_curve(lines.back(), control, point());
          break;
        }
        case 'O': {
          const Point a = point();
          lines.push_back(ellipse(a, point()));
          break;
        }
        default:
          break;
      }
    }
    return lines;
  }

 private:
  double number() {
    while (text_[at_] == ' ') ++at_;
    double value = 0.0;
    const auto end = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value).ptr;
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  Point point() {
    const double x = number();
    return {x, number()};
  }
  static std::vector<Point> ellipse(Point a, Point b) {
    const Point middle{(a.x + b.x) / 2, (a.y + b.y) / 2};
    std::vector<Point> line = {{b.x, middle.y}};
    add_curve(line, b, {middle.x, b.y});
    add_curve(line, {a.x, b.y}, {a.x, middle.y});
    add_curve(line, a, {middle.x, a.y});
    add_curve(line, {b.x, a.y}, {b.x, middle.y});
    return line;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Glyph read(const Row& row) { return {row.width + spacing, Reader(row.strokes).lines()}; }

}  // namespace

const Glyph& stroke_glyph(char32_t character) {
  static const std::map<char32_t, Glyph> glyphs = [] {
    std::map<char32_t, Glyph> all;
    for (const Row& row : font) all.emplace(row.character, read(row));
    return all;
  }();
  static const Glyph box = read(missing);
  const auto found = glyphs.find(character);
  return found == glyphs.end() ? box : found->second;
}

}  // namespace fastkv
