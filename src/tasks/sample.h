#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/text.h"

// What the benchmarks have in common: a question with its right answers, the tokenizer that
// lengths are fitted with, and what was wrong with a data file.

namespace fastkv {

/// One question to a model and what a right answer is. The user's turn is context + question; a
/// query-agnostic compression sees the context alone.
struct Sample {
  std::string task;           // e.g. "niah_single_1", "qasper", "needle"
  std::string id;             // unique within task and context, stable across runs (resume key)
  std::string system;         // system message, mostly empty
  std::string context;        // everything up to the question
  std::string question;       // the rest, with the line breaks that separate it
  std::string answer_prefix;  // what the model's turn starts with (RULER), may be empty
  std::vector<std::string> answers;
  std::vector<std::string> all_classes;  // of a classification task
  std::vector<std::string> stop;         // text that ends the answer
  std::int64_t length = 0;               // as the benchmark counts it: words, characters, or tokens
  std::int64_t max_new_tokens = 0;
  bool chat = true;                          // goes through the model's chat template
  std::map<std::string, double> attributes;  // for pictures: {"context", 4096}, {"depth", 50}
};

/// The model's tokenizer, as benchmarks need it: no BOS, special tokens' names are recognised.
struct Codec {
  std::function<std::vector<TokenId>(std::string_view)> encode;
  std::function<std::string(std::span<const TokenId>)> decode;  // special tokens left out
  /// Tokens that the chat template puts around a message, which fitted lengths leave room for.
  std::int64_t template_tokens = 0;

  std::int64_t count(std::string_view text) const {
    return static_cast<std::int64_t>(encode(text).size());
  }
};

/// A row of a data file that no sample could be made of.
struct Issue {
  std::string file;
  std::int64_t line = 0;  // from 1; 0: the file as a whole
  std::string message;
};
/// "FILE:LINE: MESSAGE"
inline std::string to_string(const Issue& issue) {
  return issue.file + (issue.line > 0 ? ":" + std::to_string(issue.line) : "") + ": " +
         issue.message;
}

}  // namespace fastkv
