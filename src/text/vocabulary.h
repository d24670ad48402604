#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv {

using TokenId = std::int32_t;

/// A fast hash of short strings (not for hostile input: collisions only cost time).
std::uint64_t hash_bytes(std::string_view text);

/// A flat hash table from strings to numbers >= 0; the strings are kept in one block.
class StringTable {
 public:
  /// Adds a string; false, and nothing changed, when it is already there.
  bool add(std::string_view text, TokenId value);
  /// The string's number, -1 when it is not in the table.
  TokenId find(std::string_view text) const;
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint32_t offset, length;
    TokenId value;
  };
  struct Slot {
    std::uint32_t tag = 0;         // upper half of the hash
    std::uint32_t entry_plus = 0;  // 0: empty
  };
  std::string_view text_of(const Entry& e) const {
    return std::string_view(block_).substr(e.offset, e.length);
  }
  void grow();

  std::string block_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
};

/// All tokens of a tokenizer: what the model knows and what was added.
class Vocabulary {
 public:
  /// More tokens than any tokenizer has; a file that asks for more is broken.
  static constexpr std::int64_t max_size = 1 << 22;

  /// Adds a token under an id; throws Error when the id is taken by another name, the name by
  /// another id, or the id is negative or absurd. Adding the same pair twice is fine.
  void add(std::string_view name, std::int64_t id, std::string_view where);

  /// One more than the greatest id.
  std::size_t size() const { return tokens_.size(); }
  bool contains(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < size() && at(id).used;
  }
  TokenId find(std::string_view name) const { return ids_.find(name); }

  struct Token {
    std::string name;   // as the file spells it
    std::string bytes;  // what it stands for in decoded text
    bool used = false;
    bool model = false;    // known to the model, not only added
    bool special = false;  // steers the model; not shown when special tokens are skipped
    bool added = false;    // looked for in text; its bytes are its name
  };
  Token& at(TokenId id) { return tokens_[static_cast<std::size_t>(id)]; }
  const Token& at(TokenId id) const { return tokens_[static_cast<std::size_t>(id)]; }

 private:
  std::vector<Token> tokens_;
  StringTable ids_;
};

}  // namespace fastkv
