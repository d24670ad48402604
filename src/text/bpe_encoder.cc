#include "text/bpe_encoder.h"

#include <algorithm>
#include <bit>

namespace fastkv {
namespace {

constexpr std::string_view space_mark = "\u2581";
// Longer words hardly ever come again.
constexpr std::size_t longest_cached = 64;

/// Where the next mark that follows another character begins, from `from` on; npos for none.
std::size_t next_cut(std::string_view text, std::size_t from) {
  while (true) {
    const std::size_t at = text.find(space_mark, from);
    if (at == std::string_view::npos || at == 0) {
      if (at == 0) {
        from = space_mark.size();
        continue;
      }
      return at;
    }
    if (!text.substr(0, at).ends_with(space_mark)) return at;
    from = at + space_mark.size();
  }
}

}  // namespace

WordCache::WordCache(std::size_t text_bytes)
    : slots_(std::clamp<std::size_t>(std::bit_ceil(text_bytes / 16 + 1), 16, 1 << 15)) {}

BpeEncoder::BpeEncoder(PreTokenizer pre_tokenizer, Bpe bpe, bool cut_before_spaces)
    : pre_tokenizer_(std::move(pre_tokenizer)),
      bpe_(std::move(bpe)),
      cut_before_spaces_(cut_before_spaces && pre_tokenizer_.keeps_whole()) {}

void BpeEncoder::encode(std::string_view segment, bool at_start, EncodeCall& call,
                        std::vector<TokenId>& out) const {
  if (cut_before_spaces_) {
    std::size_t begin = 0;
    while (begin < segment.size()) {
      const std::string_view rest = segment.substr(begin);
      const std::size_t length = std::min(next_cut(rest, 0), rest.size());
      encode_word(rest.substr(0, length), call, out);
      begin += length;
    }
    return;
  }
  pre_tokenizer_.split(segment, at_start, call.storage,
                       [&](std::string_view word) { encode_word(word, call, out); });
}

void BpeEncoder::encode_word(std::string_view word, EncodeCall& call,
                             std::vector<TokenId>& out) const {
  if (word.size() > longest_cached) return bpe_.encode(word, call.scratch, out);
  WordCache::Slot& slot = call.cache.slot(word);
  if (slot.word == word) {
    // By index: the output may move while it grows.
    for (std::size_t i = 0; i < slot.count; ++i) out.push_back(out[slot.first + i]);
    return;
  }
  const std::size_t first = out.size();
  bpe_.encode(word, call.scratch, out);
  slot = {word, first, out.size() - first};
}

bool has_inner_space_mark(std::string_view name) {
  return next_cut(name, 0) != std::string_view::npos;
}

}  // namespace fastkv
