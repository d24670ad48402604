#pragma once

#include <cstdint>
#include <string_view>

namespace fastkv {

/// How InfiniteBench asks. {context} and other fields stand for parts of a row.
struct InfiniteBenchPrompt {
  std::string_view task;
  std::int64_t max_new_tokens;
  std::string_view open;  // for models that go on with a text: no chat template
  std::string_view chat;
};

/// nullptr for an unknown task.
const InfiniteBenchPrompt* find_infinitebench_prompt(std::string_view task);

}  // namespace fastkv
