#include "metrics/row_fields.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace fastkv {

const Json* any_field(const Json& row, std::initializer_list<const char*> names,
                      const std::string& where) {
  for (const char* name : names) {
    if (const Json* value = find_field(row, name, where)) return value;
  }
  return nullptr;
}

const Json& need_field(const Json& row, std::initializer_list<const char*> names,
                       const std::string& where) {
  const Json* value = any_field(row, names, where);
  if (!value) {
    fail("{}: the row has no field \"{}\".", where, fmt::join(names, "\" or \""));
  }
  return *value;
}

std::string need_text(const Json& row, std::initializer_list<const char*> names,
                      const std::string& where) {
  return to_text(need_field(row, names, where), *names.begin(), where);
}

std::vector<std::string> to_texts(const Json& value, const char* name, const std::string& where) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array()) fail("{}: \"{}\" must be a list of strings.", where, name);
  std::vector<std::string> texts;
  for (const Json& v : value) texts.push_back(to_text(v, name, where));
  return texts;
}

}  // namespace fastkv
