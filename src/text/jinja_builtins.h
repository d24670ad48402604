#pragma once

#include <string>
#include <string_view>

#include "core/error.h"
#include "text/jinja_value.h"

namespace fastkv::jinja {

/// Where a builtin is called from, and what it may still cost.
struct Call {
  Budget& budget;
  int line = 0;

  template <class... Args>
  [[noreturn]] void error(fmt::format_string<Args...> format, Args&&... args) const {
    fail("Chat template, line {}: {}.", line, fmt::format(format, std::forward<Args>(args)...));
  }
};

struct Arguments {
  List positional;
  Dict named;

  /// The argument at a place or of a name; nullptr when it was not given.
  const Value* get(std::size_t place, std::string_view name) const;
};

/// Each throws Error for names it does not know and for values of the wrong type.
Value apply_filter(const Call& call, std::string_view name, const Value& subject,
                   const Arguments& arguments);
bool apply_test(const Call& call, std::string_view name, const Value& subject,
                const List& arguments);
Value call_method(const Call& call, const Value& object, std::string_view name,
                  const Arguments& arguments);
Value call_function(const Call& call, Function function, const Arguments& arguments);

/// What a loop visits: list items, a dict's keys, a string's characters, nothing of undefined.
List items_of(const Call& call, const Value& value);
/// object.name and object["name"]; undefined when there is no such field.
Value field_of(const Call& call, const Value& object, std::string_view name);
/// object[index].
Value item_of(const Call& call, const Value& object, const Value& index);
/// -1, 0 or 1 for two numbers or two strings.
int compare(const Call& call, const Value& a, const Value& b);
/// item in container.
bool contains(const Call& call, const Value& container, const Value& item);
double as_double(const Value& number);

}  // namespace fastkv::jinja
