#pragma once

#include <fmt/core.h>

#include <utility>

#include "fastkv/error.h"

namespace fastkv {

/// Throws Error with a formatted sentence.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace fastkv
