#pragma once

#include <string>

namespace fastkv {

/// One turn of a conversation.
struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or what the template knows beside them
  std::string content;
};

}  // namespace fastkv
