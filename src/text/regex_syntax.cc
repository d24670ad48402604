// Oniguruma and PCRE2 agree on most of a pattern, but not on all of it. What means the same is let
// through, what can be said in PCRE2's words is rewritten (\s and \w, whose sets differ; \v; \u;
// scripts, which PCRE2 would widen to script extensions), and everything else is refused.

#include <array>
#include <cstdint>

#include "core/error.h"
#include "text/regex.h"

namespace fastkv {
namespace {

// White_Space; PCRE2's own \s also has U+180E. Written as the inside of a character class.
constexpr std::string_view space_set =
    R"(\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view not_space_set =
    R"(\x00-\x08\x0E-\x1F\x21-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{D7FF}\x{E000}-\x{10FFFF})";
// Unicode TR18's word characters; PCRE2's own \w has other numbers and no marks.
constexpr std::string_view word_set = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

constexpr auto same_properties = std::to_array<std::string_view>(
    {"C",  "Cc",        "Cf",         "Cn",        "Co",          "L",     "Ll", "Lm", "Lo",
     "Lt", "Lu",        "M",          "Mc",        "Me",          "Mn",    "N",  "Nd", "Nl",
     "No", "P",         "Pc",         "Pd",        "Pe",          "Pf",    "Pi", "Po", "Ps",
     "S",  "Sc",        "Sk",         "Sm",        "So",          "Z",     "Zl", "Zp", "Zs",
     "Cs", "Lowercase", "Alphabetic", "Uppercase", "White_Space", "Emoji", "Any"});

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : in_(pattern), where_(where) {}

  std::string run() {
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        quantifier();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail("{}: the pattern /{}/ uses {}, which is not supported here.", where_, in_, what);
  }
  std::string_view rest() const { return in_.substr(pos_); }
  void copy(std::size_t n) {
    out_.append(in_.substr(pos_, n));
    pos_ += n;
  }

  void replace_set(std::string_view set, bool negated) {
    if (in_class_) {
      out_ += set;
    } else {
      out_ += negated ? "[^" : "[";
      out_ += set;
      out_ += ']';
    }
    pos_ += 2;
  }

  void escape() {
    if (pos_ + 1 >= in_.size()) refuse("a backslash at its end");
    const char c = in_[pos_ + 1];
    switch (c) {
      case 's':
        return replace_set(space_set, false);
      case 'S':
        return in_class_ ? replace_set(not_space_set, false) : replace_set(space_set, true);
      case 'w':
        return replace_set(word_set, false);
      case 'W':
        if (in_class_) refuse("\\W inside a character class");
        return replace_set(word_set, true);
      case 'p':
      case 'P':
        return property();
      case 'u':
        return unicode_escape();
      case 'v':
        out_ += "\\x0B";
        pos_ += 2;
        return;
      case 'x':
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      default:
        break;
    }
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alphanumeric) refuse(std::string("\\") + c);
    copy(
        2);  // a quoted character; the bytes after a quoted UTF-8 lead byte are copied as they come
  }

  void property() {
    const std::size_t end = rest().find('}');
    if (rest().size() < 3 || rest()[2] != '{' || end == std::string_view::npos) {
      refuse("\\p without a name in braces");
    }
    std::string_view name = rest().substr(3, end - 3);
    bool negated = rest()[1] == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    bool same = false;
    for (std::string_view p : same_properties) same = same || p == name;
    out_ += negated ? "\\P{" : "\\p{";
    if (!same) out_ += "sc:";
    out_ += name;
    out_ += '}';
    pos_ += end + 1;
  }

  void unicode_escape() {
    if (rest().size() < 6) refuse("\\u without four digits");
    out_ += "\\x{";
    out_ += rest().substr(2, 4);
    out_ += '}';
    pos_ += 6;
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (rest().starts_with('^')) copy(1);
    if (rest().starts_with(']')) refuse("] as the first character of a class");
  }

  void class_character(char c) {
    if (c == '[') refuse("a character class inside another");
    if (rest().starts_with("&&")) refuse("an intersection of character classes (&&)");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    static constexpr std::array<std::string_view, 10> known = {
        "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)", "(?-i:", "(?-i)"};
    if (rest().starts_with("(*")) refuse("(*");
    if (rest().starts_with("(?")) {
      for (std::string_view k : known) {
        if (rest().starts_with(k)) return copy(k.size());
      }
      refuse(rest().substr(0, 4));
    }
    copy(1);
  }

  void quantifier() {
    const std::size_t end = rest().find('}');
    const bool counts =
        end != std::string_view::npos && end > 1 &&
        rest().substr(1, end - 1).find_first_not_of("0123456789,") == std::string_view::npos;
    if (!counts) return copy(1);
    if (rest().substr(end + 1).starts_with('+')) refuse("{...}+");
    if (rest()[1] == ',') {
      out_ += "{0";
      ++pos_;
      copy(end);
    } else {
      copy(end + 1);
    }
  }

  std::string_view in_;
  std::string_view where_;
  std::size_t pos_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace fastkv
