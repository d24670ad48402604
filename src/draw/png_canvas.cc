#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/utf8.h"
#include "draw/canvas.h"
#include "draw/stroke_font.h"

namespace fastkv {
namespace {

void append_number(std::string& out, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(value >> shift & 0xFF);
}

/// Length, name, data, checksum of name and data.
void append_chunk(std::string& out, std::string_view name, std::string_view data) {
  append_number(out, static_cast<std::uint32_t>(data.size()));
  const std::string checked = std::string(name) + std::string(data);
  out += checked;
  append_number(out,
                static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(checked.data()),
                                                 static_cast<uInt>(checked.size()))));
}

std::string deflated(const std::string& bytes) {
  uLongf size = compressBound(bytes.size());
  std::string packed(size, '\0');
  const int code = compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                             reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), 9);
  if (code != Z_OK) fail("a picture could not be packed: zlib's code {}", code);
  packed.resize(size);
  return packed;
}

double distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x;
  const double dy = b.y - a.y;
  const double square = dx * dx + dy * dy;
  const double t =
      square == 0 ? 0 : std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / square, 0.0, 1.0);
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

}  // namespace

double text_width(std::string_view text, double size) {
  double units = 0.0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    units += stroke_glyph(c.value).advance;
    at += c.length;
  }
  return units * size / glyph_units_per_em;
}

PngCanvas::PngCanvas(double width, double height, double scale)
    : scale_(scale),
      width_(std::llround(width * scale)),
      height_(std::llround(height * scale)),
      pixels_(static_cast<std::size_t>(width_ * height_ * 3), 255) {}

void PngCanvas::blend(std::int64_t x, std::int64_t y, double share, Color color) {
  if (x < 0 || y < 0 || x >= width_ || y >= height_ || share <= 0) return;
  std::uint8_t* pixel = &pixels_[static_cast<std::size_t>((y * width_ + x) * 3)];
  const std::uint8_t to[] = {color.r, color.g, color.b};
  for (int i = 0; i < 3; ++i) {
    pixel[i] = static_cast<std::uint8_t>(
        std::lround(pixel[i] + (to[i] - pixel[i]) * std::min(share, 1.0)));
  }
}

void PngCanvas::rect(Point corner, double width, double height, Color fill) {
  const double left = corner.x * scale_, right = (corner.x + width) * scale_;
  const double top = corner.y * scale_, bottom = (corner.y + height) * scale_;
  const auto overlap = [](double low, double high, std::int64_t pixel) {
    const auto at = static_cast<double>(pixel);
    return std::min(high, at + 1) - std::max(low, at);
  };
  for (auto y = static_cast<std::int64_t>(std::floor(top)); static_cast<double>(y) < bottom; ++y) {
    for (auto x = static_cast<std::int64_t>(std::floor(left)); static_cast<double>(x) < right; ++x)
      blend(x, y, overlap(left, right, x) * overlap(top, bottom, y), fill);
  }
}

void PngCanvas::paint(std::span<const Stroke> strokes, double width, Color color) {
  if (strokes.empty()) return;
  const double reach = width / 2 + 1;
  Point low = strokes[0].from, high = low;
  for (const Stroke& s : strokes) {
    low = {std::min({low.x, s.from.x, s.to.x}), std::min({low.y, s.from.y, s.to.y})};
    high = {std::max({high.x, s.from.x, s.to.x}), std::max({high.y, s.from.y, s.to.y})};
  }
  const auto left = static_cast<std::int64_t>(std::floor(low.x - reach));
  const auto top = static_cast<std::int64_t>(std::floor(low.y - reach));
  const auto columns = static_cast<std::int64_t>(std::ceil(high.x + reach)) - left + 1;
  const auto rows = static_cast<std::int64_t>(std::ceil(high.y + reach)) - top + 1;
  std::vector<float> cover(static_cast<std::size_t>(columns * rows), 0.0F);
  for (const Stroke& s : strokes) {
    const auto x0 = static_cast<std::int64_t>(std::min(s.from.x, s.to.x) - reach) - left;
    const auto x1 = static_cast<std::int64_t>(std::max(s.from.x, s.to.x) + reach) - left;
    const auto y0 = static_cast<std::int64_t>(std::min(s.from.y, s.to.y) - reach) - top;
    const auto y1 = static_cast<std::int64_t>(std::max(s.from.y, s.to.y) + reach) - top;
    for (std::int64_t y = std::max<std::int64_t>(y0, 0); y <= std::min(y1, rows - 1); ++y) {
      for (std::int64_t x = std::max<std::int64_t>(x0, 0); x <= std::min(x1, columns - 1); ++x) {
        const Point centre{static_cast<double>(left + x) + 0.5, static_cast<double>(top + y) + 0.5};
        // A pixel whose centre is on the edge is half covered.
        const double share = std::clamp(width / 2 - distance(centre, s.from, s.to) + 0.5, 0.0, 1.0);
        float& c = cover[static_cast<std::size_t>(y * columns + x)];
        c = std::max(c, static_cast<float>(share));
      }
    }
  }
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x)
      blend(left + x, top + y, cover[static_cast<std::size_t>(y * columns + x)], color);
  }
}

void PngCanvas::line(std::span<const Point> points, double width, Color color) {
  std::vector<Stroke> strokes;
  for (std::size_t i = 1; i < points.size(); ++i) {
    strokes.push_back({{points[i - 1].x * scale_, points[i - 1].y * scale_},
                       {points[i].x * scale_, points[i].y * scale_}});
  }
  paint(strokes, width * scale_, color);
}

void PngCanvas::dot(Point center, double radius, Color color) {
  const Point at{center.x * scale_, center.y * scale_};
  const Stroke stroke{at, at};
  paint({&stroke, 1}, 2 * radius * scale_, color);
}

void PngCanvas::text(Point at, std::string_view text, const TextStyle& style) {
  using Anchor = TextStyle::Anchor;
  const double unit = style.size / glyph_units_per_em;
  double pen = 0.0;  // along the text
  if (style.anchor != Anchor::start) {
    const double width = text_width(text, style.size);
    pen = style.anchor == Anchor::end ? -width : -width / 2;
  }
  std::vector<Stroke> strokes;
  const auto place = [&](Point p) {
    const double along = pen + (p.x + 1.7) * unit;
    const double up = p.y * unit;
    const Point placed =
        style.upwards ? Point{at.x - up, at.y - along} : Point{at.x + along, at.y - up};
    return Point{placed.x * scale_, placed.y * scale_};
  };
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    const Glyph& glyph = stroke_glyph(c.value);
    for (const std::vector<Point>& line : glyph.lines) {
      for (std::size_t k = 1; k < line.size(); ++k)
        strokes.push_back({place(line[k - 1]), place(line[k])});
    }
    pen += glyph.advance * unit;
    i += c.length;
  }
  paint(strokes, style.size * (style.bold ? 0.125 : 0.085) * scale_, style.color);
}

std::string PngCanvas::finish() const {
  std::string rows;  // each begins with its filter: none
  for (std::int64_t y = 0; y < height_; ++y) {
    rows += '\0';
    rows.append(reinterpret_cast<const char*>(&pixels_[static_cast<std::size_t>(y * width_ * 3)]),
                static_cast<std::size_t>(width_ * 3));
  }
  std::string header;
  append_number(header, static_cast<std::uint32_t>(width_));
  append_number(header, static_cast<std::uint32_t>(height_));
  // 8 bits a channel, red green blue, then the only compression, filter set and interlacing.
  header += std::string("\x08\x02\x00\x00\x00", 5);
  std::string file = "\x89PNG\r\n\x1a\n";
  append_chunk(file, "IHDR", header);
  append_chunk(file, "IDAT", deflated(rows));
  append_chunk(file, "IEND", "");
  return file;
}

}  // namespace fastkv
