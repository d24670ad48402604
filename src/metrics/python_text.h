#pragma once

#include <string>
#include <string_view>
#include <vector>

// The benchmarks' reference scorers are Python programs, and their numbers depend on what Python
// means by a space, a letter or lower case. These are Python 3's `str` functions, on UTF-8.

namespace fastkv {

/// str.isspace() of one character: White_Space and the separators U+001C to U+001F.
bool is_python_space(char32_t c);
/// What `\w` of Python's `re` matches: letters, numbers and the underscore; no combining marks.
bool is_python_word(char32_t c);
/// Whether `\d` matches: decimal digits of any script.
bool is_python_digit(char32_t c);

/// str.lower() and str.upper(): the full Unicode mappings, which may change the length.
std::string python_lower(std::string_view text);
std::string python_upper(std::string_view text);
/// str.strip()
std::string_view python_strip(std::string_view text);
/// str.split(): the pieces between runs of spaces, none of them empty.
std::vector<std::string> python_split(std::string_view text);
/// round(value, digits): of the double's exact value, ties to even.
double python_round(double value, int digits);

/// Code points of UTF-8 text; an ill-formed part is one U+FFFD.
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view text);

}  // namespace fastkv
