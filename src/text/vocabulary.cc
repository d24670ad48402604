#include "text/vocabulary.h"

#include <cstring>

#include "core/error.h"

namespace fastkv {

std::uint64_t hash_bytes(std::string_view text) {
  constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15u;
  std::uint64_t hash = text.size() * multiplier;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * multiplier;
    hash ^= hash >> 29;
  };
  const char* p = text.data();
  std::size_t left = text.size();
  for (; left >= 8; p += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  if (left) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, left);
    mix(word);
  }
  return hash ^ (hash >> 32);
}

TokenId StringTable::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const std::uint64_t hash = hash_bytes(text);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot slot = slots_[i];
    if (slot.entry_plus == 0) return -1;
    if (slot.tag != tag) continue;
    const Entry& e = entries_[slot.entry_plus - 1];
    if (text_of(e) == text) return e.value;
  }
}

bool StringTable::add(std::string_view text, TokenId value) {
  if (find(text) >= 0) return false;
  if (2 * (entries_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash_bytes(text);
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = hash & mask;
  while (slots_[i].entry_plus) i = (i + 1) & mask;
  entries_.push_back(
      {static_cast<std::uint32_t>(block_.size()), static_cast<std::uint32_t>(text.size()), value});
  block_ += text;
  slots_[i] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(entries_.size())};
  return true;
}

void StringTable::grow() {
  slots_.assign(slots_.empty() ? 16 : 2 * slots_.size(), Slot{});
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const std::uint64_t hash = hash_bytes(text_of(entries_[e]));
    std::size_t i = hash & mask;
    while (slots_[i].entry_plus) i = (i + 1) & mask;
    slots_[i] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(e + 1)};
  }
}

void Vocabulary::add(std::string_view name, std::int64_t id, std::string_view where) {
  if (id < 0 || id >= max_size) {
    fail("{}: token \"{}\" has the id {}, expected 0 to {}.", where, name, id, max_size - 1);
  }
  const auto token_id = static_cast<TokenId>(id);
  if (static_cast<std::size_t>(id) >= tokens_.size()) {
    tokens_.resize(static_cast<std::size_t>(id) + 1);
  }
  Token& token = at(token_id);
  if (token.used && token.name != name) {
    fail("{}: tokens \"{}\" and \"{}\" have the same id {}.", where, token.name, name, id);
  }
  if (!ids_.add(name, token_id) && ids_.find(name) != token_id) {
    fail("{}: token \"{}\" has two ids, {} and {}.", where, name, ids_.find(name), id);
  }
  token.name = name;
  token.bytes = name;
  token.used = true;
}

}  // namespace fastkv
