#include "fastkv/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "core/error.h"

namespace fastkv {
namespace {

using Kind = OptionInfo::Kind;

template <class T>
std::string describe(const Range<T>& range) {
  const bool has_low = range.low != std::numeric_limits<T>::lowest();
  const bool has_high = range.high != std::numeric_limits<T>::max();
  if (has_low && has_high)
    return fmt::format("{} {} and at most {}", range.above ? "above" : "at least", range.low,
                       range.high);
  if (has_low) return fmt::format("{} {}", range.above ? "above" : "at least", range.low);
  return "any";
}

template <class T>
void check_range(const std::string& name, T value, const Range<T>& range, const std::string& text) {
  const bool inside = value <= range.high && (range.above ? value > range.low : value >= range.low);
  if (!inside) fail("{} must be {}, not {}", dashed(name), describe(range), text);
}

std::int64_t parse_integer(const std::string& name, const std::string& text) {
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end || errno) fail("{} needs a whole number, not '{}'", dashed(name), text);
  return value;
}

double parse_number(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !std::isfinite(value))
    fail("{} needs a number, not '{}'", dashed(name), text);
  return value;
}

template <class T>
std::string shown(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : "";
}

}  // namespace

std::string dashed(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

std::string json_key(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

void OptionVisitor::flag(std::string name, bool& value, std::string help) {
  const OptionInfo info{Kind::flag, std::move(name), "", "", std::move(help), false};
  option(info, [&value, &info](const std::string& text) {
    if (text != "true" && text != "false" && !text.empty()) {
      fail("--{} is a switch and takes no value, not '{}'", info.name, text);
    }
    value = text != "false";
  });
}

void OptionVisitor::integer(std::string name, std::int64_t& value, Range<std::int64_t> range,
                            std::string help) {
  const OptionInfo info{
      Kind::integer, std::move(name), "N", fmt::format("{}", value), std::move(help), false};
  option(info, [&](const std::string& text) {
    const std::int64_t parsed = parse_integer(info.name, text);
    check_range(info.name, parsed, range, text);
    value = parsed;
  });
}

void OptionVisitor::integer(std::string name, std::optional<std::int64_t>& value,
                            Range<std::int64_t> range, std::string help) {
  const OptionInfo info{Kind::integer, std::move(name), "N", shown(value), std::move(help), false};
  option(info, [&](const std::string& text) {
    const std::int64_t parsed = parse_integer(info.name, text);
    check_range(info.name, parsed, range, text);
    value = parsed;
  });
}

void OptionVisitor::number(std::string name, double& value, Range<double> range, std::string help) {
  const OptionInfo info{
      Kind::number, std::move(name), "X", fmt::format("{}", value), std::move(help), false};
  option(info, [&](const std::string& text) {
    const double parsed = parse_number(info.name, text);
    check_range(info.name, parsed, range, text);
    value = parsed;
  });
}

void OptionVisitor::number(std::string name, std::optional<double>& value, Range<double> range,
                           std::string help) {
  const OptionInfo info{Kind::number, std::move(name), "X", shown(value), std::move(help), false};
  option(info, [&](const std::string& text) {
    const double parsed = parse_number(info.name, text);
    check_range(info.name, parsed, range, text);
    value = parsed;
  });
}

void OptionVisitor::text(std::string name, std::string value_name, std::string& value,
                         std::string help) {
  const OptionInfo info{Kind::text, std::move(name), std::move(value_name),
                        value,      std::move(help), false};
  option(info, [&](const std::string& text) { value = text; });
}

void OptionVisitor::texts(std::string name, std::string value_name,
                          std::vector<std::string>& values, std::string help) {
  const OptionInfo info{Kind::text,         std::move(name), std::move(value_name), "",
                        std::move(help),
                        /*repeatable=*/true};
  option(info, [&](const std::string& text) { values.push_back(text); });
}

void OptionVisitor::choice(std::string name, std::string& value,
                           std::initializer_list<const char*> choices, std::string help) {
  std::string list;
  for (const char* c : choices) list += (list.empty() ? "" : "|") + std::string(c);
  const OptionInfo info{Kind::choice, std::move(name), list, value, std::move(help), false};
  option(info, [&](const std::string& text) {
    for (const char* c : choices) {
      if (text == c) {
        value = text;
        return;
      }
    }
    fail("--{} must be one of {}, not '{}'", info.name, list, text);
  });
}

void check_option_names(const OptionValues& values, const std::vector<OptionInfo>& known,
                        std::string_view owner) {
  std::string list;
  for (const OptionInfo& info : known) list += (list.empty() ? "--" : ", --") + info.name;
  for (const auto& [name, value] : values) {
    bool found = false;
    for (const OptionInfo& info : known) found |= info.name == name;
    if (!found) {
      fail("{} has no option --{}; it has {}", owner, name, list.empty() ? "none" : list);
    }
  }
}

}  // namespace fastkv
