#include <sentencepiece_processor.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "text/bpe_encoder.h"
#include "text/sentencepiece_proto.h"
#include "text/token_decoder.h"
#include "text/tokenizer_parts.h"

namespace fastkv {
namespace {

constexpr std::string_view space_mark = "\u2581";

class SentencePieceEncoder : public SegmentEncoder {
 public:
  explicit SentencePieceEncoder(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor)
      : processor_(std::move(processor)) {}

  void encode(std::string_view segment, bool, EncodeCall&,
              std::vector<TokenId>& out) const override {
    std::vector<int> ids;
    const auto status = processor_->Encode({segment.data(), segment.size()}, &ids);
    if (!status.ok()) fail("The SentencePiece library failed: {}.", status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

/// Adds a piece under the next id, with what it stands for in text.
void add_piece(const SentencePiece& piece, std::string_view where, Vocabulary& vocabulary) {
  const auto id = static_cast<TokenId>(vocabulary.size());
  vocabulary.add(piece.text, id, where);
  Vocabulary::Token& token = vocabulary.at(id);
  token.model = true;
  switch (piece.type) {
    case SentencePiece::Type::control:
      token.added = true;
      [[fallthrough]];
    case SentencePiece::Type::unknown:
      token.special = true;
      return;
    case SentencePiece::Type::byte:
      if (const int byte = byte_of_fallback_token(piece.text); byte >= 0) {
        token.bytes.assign(1, static_cast<char>(byte));
      }
      return;
    default:
      break;
  }
  token.bytes.clear();
  for (std::string_view rest = piece.text; !rest.empty();) {
    const std::size_t mark = std::min(rest.find(space_mark), rest.size());
    token.bytes += rest.substr(0, mark);
    rest.remove_prefix(mark);
    if (rest.empty()) break;
    token.bytes += ' ';
    rest.remove_prefix(space_mark.size());
  }
}

AddedTokens control_tokens(const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  for (TokenId id = 0; id < static_cast<TokenId>(vocabulary.size()); ++id) {
    if (!vocabulary.at(id).added) continue;
    AddedToken token;
    token.content = vocabulary.at(id).name;
    token.id = id;
    token.special = true;
    tokens.push_back(std::move(token));
  }
  return AddedTokens(std::move(tokens));
}

std::optional<TokenId> if_known(TokenId id) { return id >= 0 ? std::optional(id) : std::nullopt; }

/// Ranks by score, greatest first; equal scores share a rank, so that the leftmost pair wins.
std::vector<std::uint32_t> ranks_by_score(std::span<const SentencePiece> pieces) {
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return pieces[a].score > pieces[b].score; });
  std::vector<std::uint32_t> ranks(pieces.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (pieces[order[i]].score < pieces[order[i - 1]].score) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

TokenizerParts tokenizer_from_sentencepiece(const std::filesystem::path& path,
                                            SentencePieceUse use) {
  const std::string where = path.string();
  const std::string file = read_text_file(path);
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto({file.data(), file.size()});
  if (!status.ok()) {
    fail(
        "{}: the SentencePiece library cannot read this file ({}). A tokenizer.model in another "
        "form (tiktoken) needs the tokenizer.json beside it.",
        where, status.ToString());
  }

  // The library checked the file; where our own BPE does the same, it is some thirty times faster.
  if (const auto plain = read_plain_bpe(file); plain && use == SentencePieceUse::own_where_equal) {
    TokenizerParts parts = tokenizer_from_pieces(plain->pieces, plain->add_dummy_prefix);
    parts.bos = if_known(processor->bos_id());
    parts.eos = if_known(processor->eos_id());
    return parts;
  }

  TokenizerParts parts;
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    using Type = SentencePiece::Type;
    const Type type = processor->IsControl(id)   ? Type::control
                      : processor->IsUnknown(id) ? Type::unknown
                      : processor->IsByte(id)    ? Type::byte
                                                 : Type::normal;
    add_piece({processor->IdToPiece(id), 0, type}, where, parts.vocabulary);
  }
  parts.added = control_tokens(parts.vocabulary);
  parts.bos = if_known(processor->bos_id());
  parts.eos = if_known(processor->eos_id());
  // The library does not say whether the model puts a space in front; encoding does.
  std::vector<std::string> pieces;
  if (processor->Encode("a", &pieces).ok() && !pieces.empty() &&
      std::string_view(pieces[0]).starts_with(space_mark)) {
    parts.strip_leading_spaces = 1;
  }
  parts.encoder = std::make_unique<SentencePieceEncoder>(std::move(processor));
  return parts;
}

TokenizerParts tokenizer_from_pieces(std::span<const SentencePiece> pieces, bool add_dummy_prefix) {
  constexpr std::string_view where = "SentencePiece vocabulary";
  TokenizerParts parts;
  StringTable words;
  std::array<TokenId, 256> byte_tokens{};
  byte_tokens.fill(-1);
  Bpe::Options options;
  options.fuse_unk = true;
  bool cut_before_spaces = true;
  std::vector<AddedToken> user_defined;
  std::vector<std::string_view> text_of(pieces.size());  // empty: made by no merge

  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const SentencePiece& piece = pieces[i];
    const auto id = static_cast<TokenId>(i);
    add_piece(piece, where, parts.vocabulary);
    switch (piece.type) {
      case SentencePiece::Type::normal:
        words.add(piece.text, id);
        text_of[i] = piece.text;
        cut_before_spaces = cut_before_spaces && !has_inner_space_mark(piece.text);
        break;
      case SentencePiece::Type::unknown:
        options.unk = id;
        break;
      case SentencePiece::Type::byte:
        if (const int byte = byte_of_fallback_token(piece.text); byte >= 0) {
          byte_tokens[static_cast<std::size_t>(byte)] = id;
          options.byte_fallback = true;
        }
        break;
      case SentencePiece::Type::control:
      case SentencePiece::Type::unused:
        break;
      case SentencePiece::Type::user_defined: {
        // Found in the text before merging begins, and merged with nothing.
        AddedToken token;
        token.content = piece.text;
        token.id = id;
        user_defined.push_back(std::move(token));
        break;
      }
    }
  }
  const std::vector<Merge> merges = merges_from_ranks(words, text_of, ranks_by_score(pieces));
  cut_before_spaces = cut_before_spaces && words.find(space_mark) >= 0;

  parts.added = control_tokens(parts.vocabulary);
  parts.normalized_added = AddedTokens(std::move(user_defined));
  parts.normalizer = Normalizer::sentencepiece(add_dummy_prefix);
  parts.strip_leading_spaces = add_dummy_prefix ? 1 : 0;
  parts.bos = if_known(parts.vocabulary.find("<s>"));
  parts.eos = if_known(parts.vocabulary.find("</s>"));
  parts.encoder = std::make_unique<BpeEncoder>(
      PreTokenizer(), Bpe(options, std::move(words), byte_tokens, merges), cut_before_spaces);
  return parts;
}

}  // namespace fastkv
