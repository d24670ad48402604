#pragma once

#include <filesystem>
#include <string_view>

namespace fastkv {

/// Writes a file whole or not at all, under another name first; several processes may write the
/// same file. Throws Error where it cannot be written.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace fastkv
