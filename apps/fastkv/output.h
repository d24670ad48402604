#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fastkv/draw.h"
#include "fastkv/options.h"
#include "fastkv/text.h"
#include "fastkv/write_file.h"

namespace fastkv::cli {

/// A table for people: the first row is the head, numbers are right-aligned by the caller's choice.
class Table {
 public:
  /// `right`: columns that are right-aligned.
  explicit Table(std::vector<std::string> head, std::vector<bool> right = {});
  void add(std::vector<std::string> row);
  /// Aligned columns, two blanks between them.
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<bool> right_;
};

/// A bar on standard error, drawn only where that is a terminal and only when something changes.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// `note` stands behind the bar.
  void set(double share, const std::string& note = "");
  std::function<void(double)> callback();

 private:
  std::string label_;
  int shown_ = -1;
  std::string note_;
};

std::string mebibytes(std::size_t bytes);

/// Throws Error unless write_file() can be expected to succeed; for use before long work.
void check_writable(const std::string& path);
/// check_writable() for a picture that `option` names; its name says of which kind it is.
void check_picture(std::string_view option, const std::string& path);
/// Throws Error where two of these options name the same file, of which one would be lost.
void check_distinct(std::initializer_list<std::pair<std::string_view, const std::string&>> files);
void write_picture(const std::string& path, const LineChart& chart);
/// The whole file, or standard input for "-".
std::string read_input(const std::string& path);
/// The ids of a JSON list, or of an object that has one as "ids". Throws Error for anything else.
std::vector<TokenId> ids_of(const nlohmann::json& json);

std::vector<OptionInfo> without_defaults(std::vector<OptionInfo> options);

}  // namespace fastkv::cli
