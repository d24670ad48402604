#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fastkv/error.h"

namespace fastkv {

/// Bounds of a number, inclusive unless `above` is set: then the lower one is excluded.
template <class T>
struct Range {
  T low = std::numeric_limits<T>::lowest();
  T high = std::numeric_limits<T>::max();
  bool above = false;
};
/// A share of a whole: (0, 1].
inline constexpr Range<double> unit_rate{0.0, 1.0, true};

/// What is known of an option from its one declaration.
struct OptionInfo {
  enum class Kind { flag, integer, number, text, choice };
  Kind kind = Kind::text;
  std::string name;        // as on the command line, without dashes: "tsp-layer"
  std::string value_name;  // e.g. "N", "DIR", "a|b"; empty for a flag
  std::string fallback;    // default as typed; empty: none, or chosen by the model
  std::string help;        // one line
  bool repeatable = false;
};

/// An option's name as it is written: -n, --json.
std::string dashed(const std::string& name);
/// An option's name as a key of JSON: tsp_layer.
std::string json_key(std::string_view name);

/// Values as typed, by option name.
using OptionValues = std::map<std::string, std::string, std::less<>>;

/// Walks the options of a struct. A struct declares each option once, in
///   void visit(OptionVisitor& v) { v.number("retain", retain, unit_rate, "share of ..."); }
/// and parsing, help, JSON and documentation are visitors.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;

  void flag(std::string name, bool& value, std::string help);
  void integer(std::string name, std::int64_t& value, Range<std::int64_t> range, std::string help);
  void integer(std::string name, std::optional<std::int64_t>& value, Range<std::int64_t> range,
               std::string help);
  void number(std::string name, double& value, Range<double> range, std::string help);
  void number(std::string name, std::optional<double>& value, Range<double> range,
              std::string help);
  void text(std::string name, std::string value_name, std::string& value, std::string help);
  /// May be given several times.
  void texts(std::string name, std::string value_name, std::vector<std::string>& values,
             std::string help);
  void choice(std::string name, std::string& value, std::initializer_list<const char*> choices,
              std::string help);

  /// Called once for each option: `set` parses, checks the range and stores; it throws Error. It
  /// may be called during this call only.
  using Set = std::function<void(const std::string&)>;
  virtual void option(const OptionInfo& info, const Set& set) = 0;
};

/// A struct with options, whose type the visitor's caller need not know.
template <class T>
concept HasOptions = requires(T t, OptionVisitor& v) {
  t.visit(v);
};

/// All options of `options`, with their defaults.
template <HasOptions T>
std::vector<OptionInfo> list_options(T options) {
  struct Lister : OptionVisitor {
    std::vector<OptionInfo> found;
    void option(const OptionInfo& info, const Set&) override { found.push_back(info); }
  } lister;
  options.visit(lister);
  return std::move(lister.found);
}

/// Throws Error unless each of `values` is named in `known`; `owner` says whose options they are.
void check_option_names(const OptionValues& values, const std::vector<OptionInfo>& known,
                        std::string_view owner);

/// Stores each of `values` in the option of that name. Throws Error that names an option which
/// does not exist (`owner` says of what), or a value out of range.
template <HasOptions T>
void apply_options(T& options, const OptionValues& values, std::string_view owner) {
  struct Setter : OptionVisitor {
    const OptionValues* values = nullptr;
    void option(const OptionInfo& info, const Set& set) override {
      if (auto v = values->find(info.name); v != values->end()) set(v->second);
    }
  } setter;
  check_option_names(values, list_options(options), owner);
  setter.values = &values;
  options.visit(setter);
}

}  // namespace fastkv
