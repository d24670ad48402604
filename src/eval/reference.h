#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fastkv/options.h"
#include "fastkv/text.h"

namespace fastkv {

/// What FastKV's evaluation scripts (https://github.com/dongwonjo/FastKV) decide by the benchmark,
/// the model's path and its tokenizer.
struct ReferenceRules {
  std::int64_t prompt_tokens = 0;  // that prompts are cut to; 0: the scripts do not know the model
  std::int64_t answer_tokens = 0;  // 0: as many as the task says
  bool plain = false;              // prompts have no chat template around them
  std::vector<TokenId> end_ids;  // the tokenizer's end token alone, whatever the model's files say
};
ReferenceRules reference_rules(const std::string& benchmark, const std::string& model_path,
                               const Text& text);

/// The benchmark's options as these scripts have them, where they differ from the defaults.
OptionValues reference_options(const std::string& benchmark);

}  // namespace fastkv
