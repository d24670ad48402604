#pragma once

#include <optional>
#include <string>
#include <string_view>

// Byte-level vocabularies spell each byte as one printable character (GPT-2's table: printable
// Latin-1 stands for itself, the other bytes for U+0100 and up; a space is U+0120).

namespace fastkv {

/// The bytes that a token's spelling stands for; nothing when a character is not in the table.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

/// The spelling of bytes.
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace fastkv
