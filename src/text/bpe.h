#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace fastkv {

/// Two neighbouring tokens that become one. Lower ranks go first; among equal ranks the leftmost.
struct Merge {
  TokenId left, right, result;
  std::uint32_t rank;
};

/// Byte-pair encoding of single words.
class Bpe {
 public:
  struct Options {
    bool byte_level = false;     // words begin as single bytes; otherwise as code points
    bool ignore_merges = false;  // a word that is a token is that token
    bool byte_fallback = false;  // unknown code points become <0xXX> tokens
    bool fuse_unk = false;       // neighbouring unknown code points become one unknown token
    TokenId unk = -1;            // -1: none, unknown input is an Error
  };

  /// `words` holds what merging begins with and, for ignore_merges, ends with: token texts as they
  /// appear in the input. `byte_tokens[b]` is the token of byte b (of <0xXX> when not byte-level),
  /// -1 for none.
  Bpe(Options options, StringTable words, const std::array<TokenId, 256>& byte_tokens,
      std::span<const Merge> merges);

  /// Buffers that a caller keeps between words.
  struct Scratch;

  /// Appends the word's tokens to `out`. A word of n bytes takes O(n log n).
  void encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  static constexpr std::uint32_t no_rank = 0xFFFFFFFF;
  struct Result {
    std::uint32_t rank = no_rank;
    TokenId id = -1;
  };
  struct Slot {
    std::uint64_t pair = ~std::uint64_t{0};
    Result result;
  };
  static std::uint64_t key(TokenId left, TokenId right) {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) |
           static_cast<std::uint32_t>(right);
  }
  static std::size_t spread(std::uint64_t pair) {
    return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15u) >> 20);
  }
  Result merge_of(TokenId left, TokenId right) const;
  void begin_bytes(std::string_view word, std::vector<TokenId>& symbols) const;
  void begin_code_points(std::string_view word, std::vector<TokenId>& symbols) const;
  void merge_short(Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_long(Scratch& scratch, std::vector<TokenId>& out) const;

  Options options_;
  StringTable words_;
  std::array<TokenId, 256> byte_tokens_;
  std::vector<Slot> slots_;  // open addressing, a power of two
};

struct Bpe::Scratch {
  /// A symbol of a long word, in a list linked by positions.
  struct Link {
    TokenId id;
    std::uint32_t previous, next;
  };
  std::vector<TokenId> symbols;
  std::vector<Result> pairs;         // merge_short: the merge of symbols i and i+1
  std::vector<Link> links;           // merge_long
  std::vector<std::uint64_t> queue;  // merge_long: rank << 32 | position, smallest first
};

/// All merges that make one token of two by their texts: for vocabularies that give each token a
/// rank instead of a list of merges. `rank_of[id]` is the priority of making token id.
std::vector<Merge> merges_from_ranks(const StringTable& words,
                                     std::span<const std::string_view> text_of,
                                     std::span<const std::uint32_t> rank_of);

}  // namespace fastkv
