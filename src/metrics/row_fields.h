#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "core/json.h"

// Fields of a row of answers. Benchmarks' programs call the same thing by several names; the first
// that a row has counts, and messages name them all.

namespace fastkv {

/// nullptr where the row has none of them.
const Json* any_field(const Json& row, std::initializer_list<const char*> names,
                      const std::string& where);
/// Throws Error where the row has none of them.
const Json& need_field(const Json& row, std::initializer_list<const char*> names,
                       const std::string& where);
std::string need_text(const Json& row, std::initializer_list<const char*> names,
                      const std::string& where);

/// A list of texts; a single text counts as a list of one.
std::vector<std::string> to_texts(const Json& value, const char* name, const std::string& where);

}  // namespace fastkv
