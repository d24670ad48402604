#include "output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "fastkv/error.h"

namespace fastkv::cli {
namespace {

/// Columns a UTF-8 text takes on a terminal, near enough: its code points.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string blanks(to - std::min(to, width(text)), ' ');
  return right ? blanks + text : text + blanks;
}

}  // namespace

Table::Table(std::vector<std::string> head, std::vector<bool> right) : right_(std::move(right)) {
  right_.resize(head.size());
  rows_.push_back(std::move(head));
}

void Table::add(std::vector<std::string> row) {
  row.resize(right_.size());
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> widths(right_.size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += padded(row[i], widths[i], right_[i]) + "  ";
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string Table::markdown() const {
  std::string out;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    out += "|";
    for (const std::string& cell : rows_[r]) out += " " + cell + " |";
    out += "\n";
    if (r > 0) continue;
    out += "|";
    for (const bool right : right_) out += right ? " ---: |" : " --- |";
    out += "\n";
  }
  return out;
}

ProgressBar::ProgressBar(std::string label) : label_(std::move(label)) { set(0.0); }

ProgressBar::~ProgressBar() {
  if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r\033[K");
}

void ProgressBar::set(double share, const std::string& note) {
  constexpr int cells = 30;
  const int percent = static_cast<int>(share * 100);
  if ((percent == shown_ && note == note_) || !isatty(STDERR_FILENO)) return;
  shown_ = percent;
  note_ = note;
  const int full = percent * cells / 100;
  fmt::print(stderr, "\r\033[K{} [{}{}] {:3d} % {}", label_,
             std::string(static_cast<std::size_t>(full), '#'),
             std::string(static_cast<std::size_t>(cells - full), '.'), percent, note);
}

std::function<void(double)> ProgressBar::callback() {
  return [this](double share) { set(share); };
}

std::string mebibytes(std::size_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) / (1 << 20));
}

void check_writable(const std::string& path) {
  if (!can_write_file(path))
    throw Error(
        fmt::format("{} cannot be written; check that its folder exists and is writable", path));
}

void check_picture(std::string_view option, const std::string& path) {
  if (!path.ends_with(".svg") && !path.ends_with(".png"))
    throw Error(fmt::format("--{} needs a name that ends in .svg or .png, not '{}'", option, path));
  check_writable(path);
}

void check_distinct(std::initializer_list<std::pair<std::string_view, const std::string&>> files) {
  for (const auto* a = files.begin(); a != files.end(); ++a) {
    for (const auto* b = a + 1; b != files.end(); ++b) {
      if (a->second.empty() || a->second != b->second) continue;
      throw Error(fmt::format("--{} and --{} both name {}; give each its own file", a->first,
                              b->first, a->second));
    }
  }
}

void write_picture(const std::string& path, const LineChart& chart) {
  write_file(path, path.ends_with(".svg") ? draw_svg(chart) : draw_png(chart));
}

std::string read_input(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path))
    throw Error(fmt::format("{} cannot be read; check the path", path));
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<TokenId> ids_of(const nlohmann::json& json) {
  const nlohmann::json& list = json.is_object() && json.contains("ids") ? json["ids"] : json;
  const auto is_id = [](const nlohmann::json& id) {
    return id.is_number_unsigned() && id.get<std::uint64_t>() <= INT32_MAX;
  };
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_id)) {
    throw Error(
        "expected a JSON list of token ids, e.g. [1, 2, 3], or an object with such a list as "
        "\"ids\"");
  }
  return list.get<std::vector<TokenId>>();
}

std::vector<OptionInfo> without_defaults(std::vector<OptionInfo> options) {
  for (OptionInfo& info : options) info.fallback.clear();
  return options;
}

}  // namespace fastkv::cli
