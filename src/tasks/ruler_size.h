#pragma once

#include "tasks/ruler_prompts.h"

// How much filling a prompt takes to be of a given length.

namespace fastkv {

/// Tokens of the prompt and its answer.
std::int64_t ruler_length(const RulerPrompt& prompt, std::int64_t answer_tokens,
                          const Codec& codec);
/// The largest size whose prompts fit into `tokens`; growth().low where none does.
std::int64_t fit_ruler_size(const RulerGenerator& generator, const RulerSetting& setting,
                            std::int64_t answer_tokens, std::string_view purpose);

}  // namespace fastkv
