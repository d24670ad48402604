#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace fastkv {

/// A pattern of tokenizer.json, compiled by PCRE2. Const use is thread-safe.
class Regex {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  /// `pattern` is in the syntax that Hugging Face's tokenizers use (Oniguruma). Throws Error, with
  /// `where` as its beginning, for broken patterns and for constructs that PCRE2 would understand
  /// differently.
  Regex(std::string_view pattern, std::string_view where);
  /// Matches exactly `text`.
  static Regex literal(std::string_view text);

  /// The leftmost match that begins at or after `from`, in well-formed UTF-8. Throws Error when
  /// the pattern needs an unreasonable number of steps.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// Rewrites a pattern from Oniguruma's syntax to PCRE2's; see regex_syntax.cc for what is taken.
std::string to_pcre2_syntax(std::string_view pattern, std::string_view where);

}  // namespace fastkv
