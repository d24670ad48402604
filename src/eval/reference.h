#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fastkv/text.h"

namespace fastkv {

/// What FastKV's evaluation scripts (https://github.com/dongwonjo/FastKV) decide by a model's path
/// and its tokenizer.
struct ReferenceRules {
  std::int64_t prompt_tokens = 0;  // that prompts are cut to; 0: the scripts do not know the model
  bool plain_needle = false;       // the needle prompt has no chat template around it
  std::vector<TokenId> end_ids;  // the tokenizer's end token alone, whatever the model's files say
};
ReferenceRules reference_rules(const std::string& model_path, const Text& text);

}  // namespace fastkv
