#include "text/bpe.h"

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "core/utf8.h"

namespace fastkv {
namespace {

// Up to this many symbols, looking at all pairs for each merge beats a heap.
constexpr std::size_t short_word = 24;
constexpr std::uint32_t no_link = 0xFFFFFFFF;

}  // namespace

Bpe::Bpe(Options options, StringTable words, const std::array<TokenId, 256>& byte_tokens,
         std::span<const Merge> merges)
    : options_(options), words_(std::move(words)), byte_tokens_(byte_tokens) {
  slots_.resize(std::bit_ceil(2 * merges.size() + 2));
  const std::size_t mask = slots_.size() - 1;
  for (const Merge& m : merges) {
    const std::uint64_t pair = key(m.left, m.right);
    std::size_t i = spread(pair) & mask;
    while (slots_[i].result.id >= 0 && slots_[i].pair != pair) i = (i + 1) & mask;
    slots_[i] = {pair, {m.rank, m.result}};  // of two equal pairs the later one counts
  }
}

Bpe::Result Bpe::merge_of(TokenId left, TokenId right) const {
  const std::uint64_t pair = key(left, right);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = spread(pair) & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.pair == pair || slot.result.id < 0) return slot.result;
  }
}

void Bpe::begin_bytes(std::string_view word, std::vector<TokenId>& symbols) const {
  for (char c : word) {
    TokenId id = byte_tokens_[static_cast<unsigned char>(c)];
    if (id < 0) {
      if (options_.unk < 0) {
        fail("The tokenizer has no token for byte 0x{:02X} and no unknown token.",
             static_cast<unsigned char>(c));
      }
      id = options_.unk;
      if (options_.fuse_unk && !symbols.empty() && symbols.back() == id) continue;
    }
    symbols.push_back(id);
  }
}

void Bpe::begin_code_points(std::string_view word, std::vector<TokenId>& symbols) const {
  for (std::size_t i = 0; i < word.size();) {
    const std::size_t length =
        std::min(utf8_length(static_cast<unsigned char>(word[i])), word.size() - i);
    const std::string_view character = word.substr(i, length);
    i += length;
    const TokenId id = words_.find(character);
    if (id >= 0) {
      symbols.push_back(id);
      continue;
    }
    const auto byte_token = [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback && std::all_of(character.begin(), character.end(),
                                              [&](char c) { return byte_token(c) >= 0; })) {
      for (char c : character) symbols.push_back(byte_token(c));
      continue;
    }
    if (options_.unk < 0) {
      fail("The tokenizer has no token for \"{}\" and no unknown token.", character);
    }
    if (options_.fuse_unk && !symbols.empty() && symbols.back() == options_.unk) continue;
    symbols.push_back(options_.unk);
  }
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const {
  if (word.empty()) return;
  if (options_.ignore_merges) {
    const TokenId id = words_.find(word);
    if (id >= 0) {
      out.push_back(id);
      return;
    }
  }
  scratch.symbols.clear();
  if (options_.byte_level) {
    begin_bytes(word, scratch.symbols);
  } else {
    begin_code_points(word, scratch.symbols);
  }
  if (scratch.symbols.size() <= short_word) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
  }
}

void Bpe::merge_short(Scratch& scratch, std::vector<TokenId>& out) const {
  std::vector<TokenId>& symbols = scratch.symbols;
  std::vector<Result>& pairs = scratch.pairs;
  pairs.resize(symbols.size() - 1);
  for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = merge_of(symbols[i], symbols[i + 1]);
  while (!pairs.empty()) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < pairs.size(); ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == no_rank) break;
    symbols[best] = pairs[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) pairs[best - 1] = merge_of(symbols[best - 1], symbols[best]);
    if (best < pairs.size()) pairs[best] = merge_of(symbols[best], symbols[best + 1]);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void Bpe::merge_long(Scratch& scratch, std::vector<TokenId>& out) const {
  auto& links = scratch.links;
  auto& queue = scratch.queue;
  const auto count = static_cast<std::uint32_t>(scratch.symbols.size());
  links.resize(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    links[i] = {scratch.symbols[i], i ? i - 1 : no_link, i + 1 < count ? i + 1 : no_link};
  }
  const auto entry = [&](std::uint32_t i) {
    const Result r = merge_of(links[i].id, links[links[i].next].id);
    return (std::uint64_t{r.rank} << 32) | i;
  };
  const auto worth = [](std::uint64_t e) { return (e >> 32) != no_rank; };
  queue.clear();
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    if (const std::uint64_t e = entry(i); worth(e)) queue.push_back(e);
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto push = [&](std::uint32_t i) {
    if (const std::uint64_t e = entry(i); worth(e)) {
      queue.push_back(e);
      std::push_heap(queue.begin(), queue.end(), std::greater<>());
    }
  };

  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const std::uint64_t top = queue.back();
    queue.pop_back();
    const auto i = static_cast<std::uint32_t>(top);
    // An entry is stale when its symbol was merged away (id -1) or one of the pair has grown.
    if (links[i].id < 0 || links[i].next == no_link || entry(i) != top) continue;
    const std::uint32_t gone = links[i].next;
    links[i].id = merge_of(links[i].id, links[gone].id).id;
    links[i].next = links[gone].next;
    links[gone].id = -1;
    if (links[i].next != no_link) {
      links[links[i].next].previous = i;
      push(i);
    }
    if (links[i].previous != no_link) push(links[i].previous);
  }
  for (std::uint32_t i = 0; i != no_link; i = links[i].next) out.push_back(links[i].id);
}

std::vector<Merge> merges_from_ranks(const StringTable& words,
                                     std::span<const std::string_view> text_of,
                                     std::span<const std::uint32_t> rank_of) {
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < text_of.size(); ++id) {
    const std::string_view text = text_of[id];
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const TokenId left = words.find(text.substr(0, cut));
      if (left < 0) continue;
      const TokenId right = words.find(text.substr(cut));
      if (right < 0) continue;
      merges.push_back({left, right, static_cast<TokenId>(id), rank_of[id]});
    }
  }
  return merges;
}

}  // namespace fastkv
