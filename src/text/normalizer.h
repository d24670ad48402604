#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace fastkv {

/// Changes text before it is cut into words: the `normalizer` of tokenizer.json.
class Normalizer {
 public:
  Normalizer() = default;
  /// Throws Error for types that are not supported. `value` may be null.
  Normalizer(const Json* value, std::string_view where);
  /// SentencePiece's: spaces become U+2581, and with `add_dummy_prefix` one stands in front.
  static Normalizer sentencepiece(bool add_dummy_prefix);

  bool empty() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;

 private:
  struct Prepend {
    std::string text;  // put in front of text that is not empty
  };
  struct Replace {
    std::string text;  // what is replaced; empty: what `pattern` matches
    Regex pattern;
    std::string content;
  };
  using Step = std::variant<Prepend, Replace>;

  void add(const Json& value, std::string_view where);

  std::vector<Step> steps_;
};

}  // namespace fastkv
