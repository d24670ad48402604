#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"

namespace fastkv {

/// Words of the current call and where their tokens lie in its output. Direct-mapped: a word
/// takes its slot from whatever was there. It belongs to one call, so that encoders stay const.
class WordCache {
 public:
  /// A cache for a text of so many bytes.
  explicit WordCache(std::size_t text_bytes);

  struct Slot {
    std::string_view word;
    std::size_t first = 0, count = 0;  // in the output
  };
  Slot& slot(std::string_view word) { return slots_[hash_bytes(word) & (slots_.size() - 1)]; }

 private:
  std::vector<Slot> slots_;
};

/// What encoding one text needs beside the tokenizer.
struct EncodeCall {
  explicit EncodeCall(std::size_t text_bytes) : cache(text_bytes) {}

  std::deque<std::string> storage;  // changed pieces of text; the cache refers to them
  Bpe::Scratch scratch;
  WordCache cache;
};

/// Turns text without added tokens into ids.
class SegmentEncoder {
 public:
  virtual ~SegmentEncoder() = default;
  /// `segment` is well-formed UTF-8 that stays where it is for the whole call; `at_start`: it
  /// begins the input.
  virtual void encode(std::string_view segment, bool at_start, EncodeCall& call,
                      std::vector<TokenId>& out) const = 0;
};

}  // namespace fastkv
