#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"

namespace fastkv {

/// A special token's text in tokenizer_config.json, written as a string or as an object with
/// "content"; nothing when it is missing or null.
std::optional<std::string> find_token_text(const Json& config, std::string_view key,
                                           std::string_view where);

}  // namespace fastkv
