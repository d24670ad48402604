#include <fmt/format.h>

#include "draw/canvas.h"

namespace fastkv {
namespace {

std::string hex(Color c) { return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b); }

/// At most two decimals, none that say nothing.
std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

SvgCanvas::SvgCanvas(double width, double height) {
  const std::string w = number(width);
  const std::string h = number(height);
  body_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" "
      "font-family=\"Helvetica, Arial, sans-serif\">\n",
      w, h, w, h);
  rect({0, 0}, width, height, white);
}

void SvgCanvas::rect(Point corner, double width, double height, Color fill) {
  body_ +=
      fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                  number(corner.x), number(corner.y), number(width), number(height), hex(fill));
}

void SvgCanvas::line(std::span<const Point> points, double width, Color color) {
  std::string list;
  for (const Point& p : points) list += (list.empty() ? "" : " ") + number(p.x) + "," + number(p.y);
  body_ += fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
      "stroke-linejoin=\"round\"/>\n",
      list, hex(color), number(width));
}

void SvgCanvas::dot(Point center, double radius, Color color) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\"/>\n", number(center.x),
                       number(center.y), number(radius), hex(color));
}

void SvgCanvas::text(Point at, std::string_view text, const TextStyle& style) {
  using Anchor = TextStyle::Anchor;
  std::string more;
  if (style.anchor == Anchor::middle) more += " text-anchor=\"middle\"";
  if (style.anchor == Anchor::end) more += " text-anchor=\"end\"";
  if (style.bold) more += " font-weight=\"bold\"";
  if (style.upwards)
    more += fmt::format(" transform=\"rotate(-90 {} {})\"", number(at.x), number(at.y));
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\"{}>{}</text>\n",
                       number(at.x), number(at.y), number(style.size), hex(style.color), more,
                       escaped(text));
}

}  // namespace fastkv
