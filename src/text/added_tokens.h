#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"
#include "text/vocabulary.h"

namespace fastkv {

/// A token that is looked for in the text before anything else: an entry of `added_tokens`.
struct AddedToken {
  std::string content;
  TokenId id = -1;
  bool single_word = false;  // only between characters that are not of a word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool special = false;
};

/// Finds added tokens in text, leftmost first and the longest where several begin.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// Tokens without content are ignored, of equal contents the last counts.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Called for each part in order: id -1 and text, or the token found (its text included).
  using Sink = std::function<void(std::string_view text, TokenId id)>;
  /// `parse_special` false leaves special tokens as ordinary text.
  void split(std::string_view text, bool parse_special, const Sink& sink) const;

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t position) const;

  std::vector<AddedToken> tokens_;                     // sorted by content
  std::vector<bool> begins_ = std::vector<bool>(256);  // some token begins with this byte
};

}  // namespace fastkv
