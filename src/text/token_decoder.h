#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace fastkv {

/// What tokens stand for in text: the `decoder` of tokenizer.json, as a change of each token's
/// spelling and a number of spaces that decoded text loses at its beginning.
class TokenDecoder {
 public:
  /// Throws Error for decoders, and orders of them, that are not supported.
  TokenDecoder(const Json* value, std::string_view where);

  /// The bytes of the token spelled `name`.
  std::string bytes_of(std::string_view name) const;
  /// Leading spaces to take from a text's beginning.
  int strip() const { return strip_; }

 private:
  // Decoders work on the whole list of tokens one after the other; only in this order is that the
  // same as working token by token.
  enum class Stage { replace, bytes, fuse, strip };

  void add(const Json& value, std::string_view where);
  void reach(Stage stage, std::string_view type, std::string_view where);

  std::vector<std::pair<std::string, std::string>> replacements_;
  bool byte_fallback_ = false;  // <0xXX> is a byte
  bool byte_level_ = false;
  int strip_ = 0;
  Stage stage_ = Stage::replace;
};

/// The byte that a token named <0xXX> stands for; -1 for other names.
int byte_of_fallback_token(std::string_view name);

}  // namespace fastkv
