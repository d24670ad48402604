#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fastkv/text.h"
#include "tasks/sample.h"

namespace fastkv {

/// What a model is shown, and when the cache is compressed.
enum class Protocol {
  query_aware,     // context and question together, then compressed
  query_agnostic,  // the context alone is compressed, then the question comes
  reference,       // as FastKV's evaluation does: see docs/evaluation.md
};
Protocol parse_protocol(std::string_view name);
std::string describe(Protocol protocol);

struct Prompt {
  std::vector<TokenId> ids;    // what is compressed
  std::vector<TokenId> later;  // what comes after it, whole; mostly nothing
  bool truncated = false;
};

struct PromptLimits {
  std::int64_t text = 0;  // tokens of context and question (reference: of the whole prompt); 0: any
  std::int64_t whole = 0;  // tokens of the whole prompt that the model has room for
};

/// The tokenizer for a benchmark, with the room that the chat template takes.
Codec make_codec(const Text& text);

Prompt make_prompt(const Sample& sample, const Text& text, Protocol protocol,
                   const PromptLimits& limits);

}  // namespace fastkv
