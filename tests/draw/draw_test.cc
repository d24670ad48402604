#include "fastkv/draw.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "draw/canvas.h"
#include "draw/stroke_font.h"

namespace fastkv {
namespace {

struct Image {
  std::uint32_t width = 0, height = 0;
  std::string rows;  // each with its filter byte in front
  Color at(double x, double y, double scale = 1) const {
    const auto row = static_cast<std::size_t>(y * scale);
    const auto column = static_cast<std::size_t>(x * scale);
    const auto* p = reinterpret_cast<const std::uint8_t*>(rows.data()) +
                    row * (3 * std::size_t{width} + 1) + 1 + 3 * column;
    return {p[0], p[1], p[2]};
  }
  std::size_t count(Color color) const {
    std::size_t n = 0;
    for (std::uint32_t y = 0; y < height; ++y)
      for (std::uint32_t x = 0; x < width; ++x) n += at(x, y) == color;
    return n;
  }
};

std::uint32_t number_at(const std::string& text, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i)
    value = value << 8 | static_cast<unsigned char>(text.at(at + i));
  return value;
}

/// Reads what a PNG reader must: signature, chunks with their checksums, unpacked rows.
Image decode_png(const std::string& file) {
  Image image;
  EXPECT_EQ(file.substr(0, 8), "\x89PNG\r\n\x1a\n");
  std::string packed;
  bool ended = false;
  for (std::size_t at = 8; at < file.size();) {
    const std::uint32_t size = number_at(file, at);
    const std::string name = file.substr(at + 4, 4);
    const std::string data = file.substr(at + 8, size);
    const auto sum = crc32(0, reinterpret_cast<const Bytef*>(file.data() + at + 4), size + 4);
    EXPECT_EQ(number_at(file, at + 8 + size), sum) << name;
    if (name == "IHDR") {
      image.width = number_at(data, 0);
      image.height = number_at(data, 4);
      EXPECT_EQ(data.substr(8), std::string("\x08\x02\x00\x00\x00", 5));
    }
    if (name == "IDAT") packed += data;
    ended = name == "IEND";
    at += 12 + size;
  }
  EXPECT_TRUE(ended);
  uLongf size = image.height * (3 * image.width + 1);
  image.rows.resize(size);
  EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(image.rows.data()), &size,
                       reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
            Z_OK);
  EXPECT_EQ(size, image.rows.size());
  return image;
}

TEST(PngCanvas, PaintsShapesWhereTheyAre) {
  PngCanvas canvas(20, 10, 2);
  canvas.rect({2, 3}, 4, 2, {200, 0, 0});
  canvas.line({10, 5}, {18, 5}, 2, {0, 0, 200});
  canvas.dot({10, 8}, 1, {0, 200, 0});
  canvas.line({-50, -50}, {-40, 90}, 3, {0, 0, 0});  // outside: nothing happens
  const Image image = decode_png(canvas.finish());
  EXPECT_EQ(image.width, 40U);
  EXPECT_EQ(image.height, 20U);
  EXPECT_EQ(image.count({200, 0, 0}), 8U * 4U);
  EXPECT_EQ(image.at(2, 3, 2), (Color{200, 0, 0}));
  EXPECT_EQ(image.at(6, 3, 2), white);
  EXPECT_EQ(image.at(14, 5, 2), (Color{0, 0, 200}));
  EXPECT_EQ(image.at(14, 6.5, 2), white);
  EXPECT_EQ(image.at(10, 8, 2), (Color{0, 200, 0}));
}

TEST(PngCanvas, CoversHalfAPixelByHalf) {
  PngCanvas canvas(4, 4, 1);
  canvas.rect({1.5, 1}, 1, 1, {0, 0, 0});
  const Image image = decode_png(canvas.finish());
  EXPECT_NEAR(image.at(1, 1).r, 128, 1);
  EXPECT_NEAR(image.at(2, 1).r, 128, 1);
  EXPECT_EQ(image.at(3, 1), white);
}

TEST(StrokeFont, HasEveryPrintableCharacterWithinItsBounds) {
  const Glyph& missing = stroke_glyph(U'\u4e2d');
  EXPECT_EQ(missing.lines.size(), 1U);
  for (char32_t c = '!'; c <= '~'; ++c) {
    const Glyph& glyph = stroke_glyph(c);
    EXPECT_NE(&glyph, &missing) << static_cast<int>(c);
    EXPECT_FALSE(glyph.lines.empty()) << static_cast<int>(c);
    for (const auto& line : glyph.lines) {
      EXPECT_GT(line.size(), 1U) << static_cast<int>(c);
      for (const Point& p : line) {
        EXPECT_GE(p.x, -0.1) << static_cast<int>(c);
        EXPECT_LE(p.x, glyph.advance - 2.4) << static_cast<int>(c);
        EXPECT_GE(p.y, -4.0) << static_cast<int>(c);
        EXPECT_LE(p.y, 15.5) << static_cast<int>(c);
      }
    }
  }
  EXPECT_DOUBLE_EQ(text_width("\u00b1\u00b1", 19), 2 * stroke_glyph(U'\u00b1').advance);
}

TEST(PngCanvas, TextStaysInItsRoom) {
  for (const bool upwards : {false, true}) {
    PngCanvas canvas(200, 200, 1);
    canvas.text({100, 100}, "Depth",
                {.size = 20, .anchor = TextStyle::Anchor::middle, .upwards = upwards});
    const Image image = decode_png(canvas.finish());
    const double half = text_width("Depth", 20) / 2 + 1;
    std::size_t inked = 0;
    for (int y = 0; y < 200; ++y) {
      for (int x = 0; x < 200; ++x) {
        if (image.at(x, y) == white) continue;
        ++inked;
        const double along = upwards ? 100 - y : x - 100;
        const double up = upwards ? 100 - x : 100 - y;
        EXPECT_LE(std::abs(along), half);
        EXPECT_LE(up, 17);
        EXPECT_GE(up, -6);
      }
    }
    EXPECT_GT(inked, 200U);
  }
}

HeatMap needle_map() {
  HeatMap map{.title = "fastkv, retain 0.1: 66.7 <of 100>",
              .subtitle = "a & b",
              .x_label = "context, tokens",
              .y_label = "depth, %",
              .scale_label = "score",
              .x = {"4K", "8K"},
              .y = {"0", "50"},
              .cells = {100.0, 0.0, 100.0, std::nullopt}};
  return map;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(HeatMap, SvgHasCellsLabelsAndScale) {
  const std::string svg = draw_svg(needle_map());
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  for (const char* label : {">fastkv, retain 0.1: 66.7 &lt;of 100&gt;<", ">a &amp; b<", ">4K<",
                            ">8K<", ">50<", ">context, tokens<", ">depth, %<", ">75<", ">score<"})
    EXPECT_NE(svg.find(label), std::string::npos) << label;
  EXPECT_EQ(count_of(svg, "fill=\"#1f9482\""), 2U) << "cells with the highest value";
  EXPECT_EQ(count_of(svg, "fill=\"#b22a3c\""), 1U) << "the lowest";
  EXPECT_EQ(count_of(svg, "fill=\"#dee2e6\""), 1U) << "not measured";
}

TEST(HeatMap, PngHasTheSameCells) {
  const Image image = decode_png(draw_png(needle_map(), 1));
  // Two cells of the best colour, one of the worst; 60 by 55 units, less margins and numbers.
  EXPECT_GT(image.count({31, 148, 130}), 2U * 2700U);
  EXPECT_LT(image.count({31, 148, 130}), 2U * 3300U);
  EXPECT_GT(image.count({178, 42, 60}), 2700U);
  EXPECT_LT(image.count({178, 42, 60}), 3300U);
  const Image twice = decode_png(draw_png(needle_map(), 2));
  EXPECT_NEAR(twice.width, 2.0 * image.width, 2);
}

TEST(HeatMap, OneRowIsHighEnoughForTheNameOfItsAxis) {
  HeatMap map = needle_map();
  map.y = {"50"};
  map.cells = {100.0, 0.0};
  map.y_label = "how deep in the text the needle is, %";
  const double wanted = text_width(map.y_label, 12);
  const Image image = decode_png(draw_png(map, 1));
  EXPECT_GT(image.height, wanted + 66 + 50);
}

TEST(HeatMap, LeavesOutColumnNamesThatWouldCollide) {
  HeatMap map = needle_map();
  map.x.clear();
  map.cells.clear();
  map.y = {"0"};
  for (int i = 1; i <= 40; ++i) {
    map.x.push_back(std::to_string(1000 * i));
    map.cells.push_back(50.0);
  }
  const std::string svg = draw_svg(map);
  EXPECT_NE(svg.find(">1000<"), std::string::npos);
  EXPECT_EQ(svg.find(">2000<"), std::string::npos);
}

TEST(LineChart, DrawsSeriesWithErrorsAndALegend) {
  LineChart chart{.title = "RULER",
                  .subtitle = "mean of 9",
                  .x_label = "context, tokens",
                  .y_label = "score",
                  .series = {},
                  .logarithmic_x = true,
                  .y_low = 0.0,
                  .y_high = 100.0};
  chart.series.push_back({"full", {{4096, 100}, {8192, 99}, {16384, 98}}, {0, 1, 2}, ""});
  chart.series.push_back({"fastkv", {{4096, 90}, {8192, 80}, {16384, 70}}, {}, "b"});
  chart.series.push_back({"fastkv 20 %", {{4096, 95}, {8192, 85}, {16384, 75}}, {}, "b"});
  const std::string svg = draw_svg(chart);
  EXPECT_EQ(count_of(svg, "stroke=\"#d65420\""), 4U) << "a group has one colour";
  EXPECT_EQ(count_of(svg, "r=\"1.8\""), 4U) << "and its second member hollow dots";
  for (const char* label : {">RULER<", ">full<", ">fastkv<", ">4K<", ">16K<", ">100<", ">20<"})
    EXPECT_NE(svg.find(label), std::string::npos) << label;
  const Image image = decode_png(draw_png(chart, 1));
  EXPECT_GT(image.count({0, 90, 160}), 500U);
  EXPECT_GT(image.count({214, 84, 32}), 500U);
}

TEST(LineChart, TakesOnePointAndNone) {
  LineChart chart;
  EXPECT_NE(draw_svg(chart).find("</svg>"), std::string::npos);
  chart.series.push_back({"one", {{5, 5}}, {}, ""});
  EXPECT_NE(draw_svg(chart).find("</svg>"), std::string::npos);
  decode_png(draw_png(chart));
}

/// For a look with one's own eyes: FASTKV_DRAW_DIR=/tmp/pictures test_draw.
TEST(Pictures, AreWrittenOnRequest) {
  const char* directory = std::getenv("FASTKV_DRAW_DIR");
  if (!directory) GTEST_SKIP() << "FASTKV_DRAW_DIR is not set";
  const auto write = [&](const std::string& name, const std::string& bytes) {
    std::ofstream(std::string(directory) + "/" + name, std::ios::binary) << bytes;
  };
  HeatMap map{.title = "fastkv 10 %: 71.3",
              .subtitle = "needle-v2-14m, query-aware, 11 depths",
              .x_label = "context, tokens",
              .y_label = "depth, %",
              .scale_label = "score",
              .x = {},
              .y = {},
              .cells = {}};
  for (int x = 1; x <= 8; ++x) map.x.push_back(std::to_string(4000 * x));
  for (int y = 0; y <= 100; y += 10) {
    map.y.push_back(std::to_string(y));
    for (int x = 0; x < 8; ++x) map.cells.push_back((x * 13 + y * 3) % 101);
  }
  write("heat.png", draw_png(map));
  write("heat.svg", draw_svg(map));
  LineChart chart{.title = "RULER: score against context",
                  .subtitle = "needle-v2-14m, mean of 9 tasks, bars: standard error",
                  .x_label = "context, tokens",
                  .y_label = "score",
                  .series = {},
                  .logarithmic_x = true,
                  .y_low = 0.0,
                  .y_high = 100.0};
  int i = 0;
  for (const char* name : {"full", "fastkv 0.1", "fastkv 0.2", "snapkv 0.1", "h2o 0.1",
                           "streamingllm 0.1", "gemfilter 0.1", "pyramidinfer 0.1",
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz",
                           "0123456789 .,:;!?-_+=/()[]{}<>", "%&*#@~^$\"'`|\\ \u00b1\u00d7"}) {
    const double d = 7.0 * i++;
    chart.series.push_back(
        {name, {{4096, 100 - d}, {8192, 96 - d}, {16384, 90 - d}}, {1, 3, 5}, ""});
  }
  write("lines.png", draw_png(chart));
  write("lines.svg", draw_svg(chart));
}

}  // namespace
}  // namespace fastkv
