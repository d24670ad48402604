#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/json.h"
#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/segment_encoder.h"
#include "text/vocabulary.h"

namespace fastkv {

/// What a tokenizer is made of; each file format has a loader that fills it.
struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens added;             // looked for in the text as it comes
  Normalizer normalizer;         // applied to the text between them
  AddedTokens normalized_added;  // looked for in the normalized text
  std::unique_ptr<const SegmentEncoder> encoder;
  std::optional<TokenId> bos;  // put in front of a prompt
  std::optional<TokenId> eos;
  int strip_leading_spaces = 0;  // that encoding added and decoding takes away
};

/// tokenizer.json with a BPE model. `where` names the file in messages.
TokenizerParts tokenizer_from_json(const Json& file, std::string_view where);

/// Who encodes text for a SentencePiece model.
enum class SentencePieceUse {
  own_where_equal,  // our BPE for models that it reproduces, the library for others
  library,
};

/// tokenizer.model, read by the SentencePiece library.
TokenizerParts tokenizer_from_sentencepiece(
    const std::filesystem::path& path, SentencePieceUse use = SentencePieceUse::own_where_equal);

/// One entry of a SentencePiece vocabulary; the index is the id.
struct SentencePiece {
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  std::string text;  // with U+2581 for spaces
  float score = 0;   // greater scores are merged first
  Type type = Type::normal;
};

/// SentencePiece's BPE by our own encoder, from a vocabulary as GGUF files carry it.
/// `add_dummy_prefix`: text gets a space in front.
TokenizerParts tokenizer_from_pieces(std::span<const SentencePiece> pieces, bool add_dummy_prefix);

/// Reads bos_token, eos_token and add_bos_token from tokenizer_config.json, or the tokens from
/// special_tokens_map.json, where these files exist beside the tokenizer.
void read_tokenizer_config(const std::filesystem::path& model_dir, TokenizerParts& parts);

}  // namespace fastkv
