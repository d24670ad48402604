#pragma once

#include <string>

namespace fastkv {

/// Text as it stands between the tags of a page.
std::string escaped(const std::string& text);

}  // namespace fastkv
