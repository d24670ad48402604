#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Python's string functions, on UTF-8.

namespace fastkv::jinja {

/// Without the white space (as Python's str.strip has it) at the named ends; with `characters`,
/// without those instead.
std::string_view trimmed(std::string_view text, bool left, bool right);
std::string_view trimmed(std::string_view text, bool left, bool right, std::string_view characters);

/// Where each code point begins, and at last where the text ends.
std::vector<std::size_t> code_point_offsets(std::string_view text);

/// Letters changed. Only ASCII is known; other letters that have a case throw Error.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
/// The first letter, or the first of each word, upper and the others lower.
std::string capitalized(std::string_view text, bool each_word);

/// The first `count` (all when negative) places of `from` replaced. Throws Error when the result
/// would be longer than `max_size`.
std::string replaced(std::string_view text, std::string_view from, std::string_view to,
                     std::int64_t count, std::size_t max_size);

}  // namespace fastkv::jinja
