#pragma once

#include <filesystem>
#include <string_view>

namespace fastkv {

/// Writes a file whole or not at all, under another name first; several processes may write the
/// same file. What is no file, such as /dev/stdout, is written to as it is. Throws Error where that
/// cannot be done.
void write_file(const std::filesystem::path& path, std::string_view bytes);
/// Whether write_file() can be expected to succeed; for use before long work.
bool can_write_file(const std::filesystem::path& path);

}  // namespace fastkv
