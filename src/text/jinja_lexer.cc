#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/utf8.h"
#include "text/jinja_text.h"

namespace fastkv::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

constexpr std::array<std::string_view, 6> long_symbols = {"==", "!=", "<=", ">=", "//", "**"};
constexpr std::string_view short_symbols = "+-*/%~<>=()[]{},.:|";

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (pos_ < source_.size()) {
      const std::size_t tag = next_tag();
      std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
      if (tag == source_.size()) {
        push_text(text);
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      push_text(before_tag(text, kind, sign));
      line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
      pos_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      if (kind == '#') {
        comment();
      } else {
        tag_content(kind);
      }
    }
    push(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(std::string_view what) const {
    fail("Chat template, line {}: {}.", line_, what);
  }
  std::string_view rest() const { return std::string_view(source_).substr(pos_); }
  void push(Token::Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  void push_text(std::string_view text) {
    if (!text.empty()) push(Token::Kind::text, text);
  }

  std::size_t next_tag() const {
    for (std::size_t i = source_.find('{', pos_); i != std::string::npos;
         i = source_.find('{', i + 1)) {
      const char c = i + 1 < source_.size() ? source_[i + 1] : '\0';
      if (c == '{' || c == '%' || c == '#') return i;
    }
    return source_.size();
  }

  /// The text that a tag leaves standing before it.
  std::string_view before_tag(std::string_view text, char kind, char sign) const {
    if (sign == '-') return trimmed(text, /*left=*/false, /*right=*/true);
    if (sign == '+' || kind == '{') return text;
    // lstrip_blocks: white space between the line's beginning and the tag goes.
    const std::size_t newline = text.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    const bool line_begins = newline != std::string_view::npos || at_line_start_;
    const std::string_view indent = text.substr(begin);
    if (line_begins && trimmed(indent, true, true).empty()) return text.substr(0, begin);
    return text;
  }

  /// After a tag's end, whose sign was `sign`: what the tag takes away behind it.
  void after_tag(bool block, char sign) {
    const std::size_t before = pos_;
    if (sign == '-') {
      const std::string_view left = trimmed(rest(), /*left=*/true, /*right=*/false);
      pos_ = source_.size() - left.size();
    } else if (block && sign != '+' && pos_ < source_.size() && source_[pos_] == '\n') {
      ++pos_;  // trim_blocks
    }
    line_ +=
        static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(before),
                                    source_.begin() + static_cast<std::ptrdiff_t>(pos_), '\n'));
    at_line_start_ = pos_ > before && source_[pos_ - 1] == '\n';
  }

  void comment() {
    const std::size_t end = source_.find("#}", pos_);
    if (end == std::string::npos) error("a comment {# does not end");
    const char sign = end > pos_ ? source_[end - 1] : '\0';
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(pos_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    pos_ = end + 2;
    after_tag(/*block=*/true, sign == '-' || sign == '+' ? sign : '\0');
  }

  void tag_content(char kind) {
    const bool block = kind == '%';
    push(block ? Token::Kind::block_begin : Token::Kind::variable_begin, "");
    const std::string_view closing = block ? "%}" : "}}";
    int open = 0;  // brackets; a tag does not end inside of them
    while (true) {
      while (pos_ < source_.size() && is_space(source_[pos_])) {
        if (source_[pos_++] == '\n') ++line_;
      }
      if (pos_ >= source_.size()) error("a tag does not end");
      if (open == 0) {
        const char first = source_[pos_];
        const bool sign =
            (first == '-' || (first == '+' && block)) && rest().substr(1).starts_with(closing);
        if (sign || rest().starts_with(closing)) {
          push(block ? Token::Kind::block_end : Token::Kind::variable_end, "");
          pos_ += sign ? 3 : 2;
          return after_tag(block, sign ? first : '\0');
        }
      }
      inner_token(open);
    }
  }

  void inner_token(int& open) {
    const char c = source_[pos_];
    if (is_name_start(c)) {
      std::size_t n = 1;
      while (n < rest().size() && (is_name_start(rest()[n]) || is_digit(rest()[n]))) ++n;
      push(Token::Kind::name, rest().substr(0, n));
      pos_ += n;
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      symbol(open);
    }
  }

  void number() {
    std::size_t n = 0;
    bool floating = false;
    const auto digits = [&] {
      while (n < rest().size() && (is_digit(rest()[n]) || rest()[n] == '_')) ++n;
    };
    digits();
    if (n + 1 < rest().size() && rest()[n] == '.' && is_digit(rest()[n + 1])) {
      floating = true;
      ++n;
      digits();
    }
    std::string text(rest().substr(0, n));
    std::erase(text, '_');
    push(floating ? Token::Kind::floating : Token::Kind::integer, text);
    pos_ += n;
  }

  void string(char quote) {
    std::string value;
    const int first_line = line_;
    for (++pos_;; ++pos_) {
      if (pos_ >= source_.size()) error("a string does not end");
      const char c = source_[pos_];
      if (c == quote) break;
      if (c == '\n') ++line_;
      if (c == '\\') {
        escape(value);
      } else {
        value += c;
      }
    }
    ++pos_;
    tokens_.push_back({Token::Kind::string, std::move(value), first_line});
  }

  void escape(std::string& value) {
    if (++pos_ >= source_.size()) error("a string does not end");
    const char c = source_[pos_];
    constexpr std::string_view from = "nrtabfv0\\'\"", to("\n\r\t\a\b\f\v\0\\'\"", 11);
    if (const std::size_t i = from.find(c); i != std::string_view::npos) {
      value += to[i];
    } else if (c == 'x' || c == 'u') {
      const std::size_t count = c == 'x' ? 2 : 4;
      const std::string_view digits = rest().substr(1, count);
      if (digits.size() != count ||
          digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
        error("an escape in a string lacks its digits");
      }
      const auto code = static_cast<char32_t>(std::stoul(std::string(digits), nullptr, 16));
      if (code >= 0xD800 && code < 0xE000) error("a string has a surrogate escape");
      append_utf8(value, code);
      pos_ += count;
    } else if (c == '\n') {
      ++line_;  // a line continued
    } else {
      value += '\\';
      value += c;
    }
  }

  void symbol(int& open) {
    std::string_view found;
    for (std::string_view s : long_symbols) {
      if (rest().starts_with(s)) found = s;
    }
    if (found.empty() && short_symbols.find(source_[pos_]) != std::string_view::npos) {
      found = rest().substr(0, 1);
    }
    if (found.empty()) {
      error(fmt::format("unexpected character \"{}\"",
                        rest().substr(0, decode_utf8(source_, pos_).length)));
    }
    if (found == "(" || found == "[" || found == "{") ++open;
    if (found == ")" || found == "]" || found == "}") open = std::max(0, open - 1);
    push(Token::Kind::symbol, found);
    pos_ += found.size();
  }

  std::string source_;
  std::size_t pos_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // the last tag took a line's end, or there was none
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source) {
  constexpr std::size_t max_source = 1 << 20;
  if (source.size() > max_source) fail("The chat template is longer than {} bytes.", max_source);
  if (!is_valid_utf8(source)) fail("The chat template is not valid UTF-8.");
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const bool carriage = source[i] == '\r';
    text += carriage ? '\n' : source[i];
    if (carriage && i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (text.ends_with('\n')) text.pop_back();
  return Lexer(std::move(text)).run();
}

}  // namespace fastkv::jinja
