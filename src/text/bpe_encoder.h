#pragma once

#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/segment_encoder.h"

namespace fastkv {

/// Pre-tokenizer, word cache and BPE.
class BpeEncoder : public SegmentEncoder {
 public:
  /// `cut_before_spaces`: no token has a U+2581 after another character, so that text which the
  /// pre-tokenizer leaves whole may be cut there without changing a single id.
  BpeEncoder(PreTokenizer pre_tokenizer, Bpe bpe, bool cut_before_spaces);

  void encode(std::string_view segment, bool at_start, EncodeCall& call,
              std::vector<TokenId>& out) const override;

 private:
  void encode_word(std::string_view word, EncodeCall& call, std::vector<TokenId>& out) const;

  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  bool cut_before_spaces_;
};

/// Whether `name` allows for BpeEncoder's cut_before_spaces.
bool has_inner_space_mark(std::string_view name);

}  // namespace fastkv
