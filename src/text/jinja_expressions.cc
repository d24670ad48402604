// Expressions, by Jinja's order of binding: or, and, not, comparisons, + -, ~, * / // %, unary,
// **, then filters and tests, which bind tightest.

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"
#include "text/jinja_parser.h"

namespace fastkv::jinja {
namespace {

constexpr int max_nesting = 48;  // of brackets
constexpr int max_depth = 200;   // of nodes, a long chain of operators included

/// Counts a level of recursion for as long as it lives.
class Level {
 public:
  Level(int& depth, const TokenStream& in) : depth_(depth) {
    if (++depth_ > max_nesting) in.error("expressions are nested too deeply");
  }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
  ~Level() { --depth_; }

 private:
  int& depth_;
};

}  // namespace

const Token& TokenStream::next() {
  const Token& token = peek();
  if (pos_ < tokens_.size()) ++pos_;
  return token;
}
bool TokenStream::take_symbol(std::string_view s) {
  if (!at_symbol(s)) return false;
  next();
  return true;
}
bool TokenStream::take_name(std::string_view s) {
  if (!at_name(s)) return false;
  next();
  return true;
}
void TokenStream::expect_symbol(std::string_view s) {
  if (!take_symbol(s)) error(fmt::format("\"{}\" was expected", s));
}
void TokenStream::expect_name(std::string_view s) {
  if (!take_name(s)) error(fmt::format("\"{}\" was expected", s));
}
void TokenStream::expect(Token::Kind kind, std::string_view what) {
  if (!at(kind)) error(fmt::format("{} was expected", what));
  next();
}
std::string TokenStream::expect_identifier() {
  if (!at(Token::Kind::name)) error("a name was expected");
  return next().text;
}
void TokenStream::error(std::string_view what) const {
  const Token& token = peek();
  const std::string found = token.text.empty() ? "" : fmt::format(" at \"{}\"", token.text);
  fail("Chat template, line {}: {}{}.", token.line, what, found.size() < 60 ? found : "");
}

ExpressionPtr ExpressionParser::make(Kind kind, std::string text) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = in_.peek().line;
  node->text = std::move(text);
  return node;
}

ExpressionPtr ExpressionParser::with(ExpressionPtr node, ExpressionPtr part) const {
  if (part) node->depth = std::max(node->depth, part->depth + 1);
  if (node->depth > max_depth) in_.error("an expression is too long");
  node->parts.push_back(std::move(part));
  return node;
}

ExpressionPtr ExpressionParser::binary(std::string op, ExpressionPtr left,
                                       ExpressionPtr right) const {
  return with(with(make(Kind::binary, std::move(op)), std::move(left)), std::move(right));
}

ExpressionPtr ExpressionParser::parse(bool with_condition) {
  const Level level(nesting_, in_);
  ExpressionPtr node = logic(0);
  while (with_condition && in_.take_name("if")) {
    ExpressionPtr choice = with(make(Kind::conditional), std::move(node));
    choice = with(std::move(choice), logic(0));
    node = with(std::move(choice), in_.take_name("else") ? parse() : nullptr);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_tuple() {
  ExpressionPtr first = parse();
  if (!in_.at_symbol(",")) return first;
  ExpressionPtr list = with(make(Kind::list), std::move(first));
  while (in_.take_symbol(",")) {
    if (in_.at(Token::Kind::block_end) || in_.at(Token::Kind::variable_end)) break;
    list = with(std::move(list), parse());
  }
  return list;
}

ExpressionPtr ExpressionParser::logic(int level) {
  constexpr std::array<std::string_view, 2> words = {"or", "and"};
  if (level == 2) {
    if (!in_.take_name("not")) return comparison();
    const Level deeper(nesting_, in_);
    return with(make(Kind::unary, "not"), logic(2));
  }
  const std::string word(words[static_cast<std::size_t>(level)]);
  ExpressionPtr node = logic(level + 1);
  while (in_.take_name(word)) node = binary(word, std::move(node), logic(level + 1));
  return node;
}

bool ExpressionParser::take_comparison(std::string& op) {
  for (std::string_view s : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (in_.take_symbol(s)) {
      op = s;
      return true;
    }
  }
  if (in_.take_name("in")) {
    op = "in";
    return true;
  }
  if (in_.at_name("not") && in_.peek(1).kind == Token::Kind::name && in_.peek(1).text == "in") {
    in_.next();
    in_.next();
    op = "not in";
    return true;
  }
  return false;
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr first = arithmetic(0);
  std::string op;
  if (!take_comparison(op)) return first;
  ExpressionPtr node = with(make(Kind::comparison), std::move(first));
  do {
    node->texts.push_back(op);
    node = with(std::move(node), arithmetic(0));
  } while (take_comparison(op));
  return node;
}

ExpressionPtr ExpressionParser::arithmetic(int level) {
  static const std::vector<std::vector<std::string>> operators = {
      {"+", "-"}, {"~"}, {"*", "/", "//", "%"}};
  if (level == static_cast<int>(operators.size())) return power();
  ExpressionPtr node = arithmetic(level + 1);
  while (true) {
    const auto& ops = operators[static_cast<std::size_t>(level)];
    const auto op = std::find_if(ops.begin(), ops.end(),
                                 [&](const std::string& s) { return in_.take_symbol(s); });
    if (op == ops.end()) return node;
    node = binary(*op, std::move(node), arithmetic(level + 1));
  }
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr node = unary(/*with_filters=*/true);
  while (in_.take_symbol("**")) node = binary("**", std::move(node), unary(true));
  return node;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Level level(nesting_, in_);
  ExpressionPtr node;
  if (in_.at_symbol("-") || in_.at_symbol("+")) {
    const std::string op = in_.next().text;
    node = with(make(Kind::unary, op), unary(/*with_filters=*/false));
  } else {
    node = postfix(primary());
  }
  return with_filters ? filters(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = in_.peek();
  ExpressionPtr node = make(Kind::literal);
  switch (token.kind) {
    case Token::Kind::string: {
      std::string value;
      while (in_.at(Token::Kind::string)) value += in_.next().text;
      node->value = jinja::text(std::move(value));
      return node;
    }
    case Token::Kind::integer: {
      std::int64_t value = 0;
      const char* end = token.text.data() + token.text.size();
      if (std::from_chars(token.text.data(), end, value).ec != std::errc()) {
        in_.error("an integer is too large");
      }
      node->value = integer(value);
      in_.next();
      return node;
    }
    case Token::Kind::floating: {
      double value = 0;
      const char* end = token.text.data() + token.text.size();
      if (std::from_chars(token.text.data(), end, value).ec != std::errc()) {
        in_.error("a number is out of range");
      }
      node->value = Value{value};
      in_.next();
      return node;
    }
    case Token::Kind::name: {
      const std::string name = in_.next().text;
      if (name == "true" || name == "True") {
        node->value = boolean(true);
      } else if (name == "false" || name == "False") {
        node->value = boolean(false);
      } else if (name == "none" || name == "None") {
        node->value = none();
      } else {
        node->kind = Kind::name;
        node->text = name;
      }
      return node;
    }
    default:
      break;
  }
  if (in_.take_symbol("(")) {
    if (in_.take_symbol(")")) return make(Kind::list);
    ExpressionPtr inner = parse();
    if (in_.at_symbol(",")) {
      inner = with(make(Kind::list), std::move(inner));
      while (in_.take_symbol(",") && !in_.at_symbol(")")) inner = with(std::move(inner), parse());
    }
    in_.expect_symbol(")");
    return inner;
  }
  if (in_.take_symbol("[")) return list_literal();
  if (in_.take_symbol("{")) return dict_literal();
  in_.error("an expression was expected");
}

ExpressionPtr ExpressionParser::list_literal() {
  ExpressionPtr node = make(Kind::list);
  while (!in_.take_symbol("]")) {
    if (!node->parts.empty()) in_.expect_symbol(",");
    if (in_.take_symbol("]")) break;
    node = with(std::move(node), parse());
  }
  return node;
}

ExpressionPtr ExpressionParser::dict_literal() {
  ExpressionPtr node = make(Kind::dict);
  while (!in_.take_symbol("}")) {
    if (!node->parts.empty()) in_.expect_symbol(",");
    if (in_.take_symbol("}")) break;
    node = with(std::move(node), parse());
    in_.expect_symbol(":");
    node = with(std::move(node), parse());
  }
  return node;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    if (in_.take_symbol(".")) {
      if (in_.at(Token::Kind::integer)) {
        in_.error("an attribute that is a number is not supported; write it in brackets");
      }
      node = with(make(Kind::attribute, in_.expect_identifier()), std::move(node));
    } else if (in_.take_symbol("[")) {
      node = subscript(std::move(node));
    } else if (in_.at_symbol("(")) {
      node = arguments(with(make(Kind::call), std::move(node)));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr node) {
  const auto bound = [&]() -> ExpressionPtr {
    return in_.at_symbol(":") || in_.at_symbol("]") ? nullptr : parse();
  };
  ExpressionPtr first = bound();
  if (!in_.at_symbol(":")) {
    if (!first) in_.error("an index was expected");
    in_.expect_symbol("]");
    return with(with(make(Kind::index), std::move(node)), std::move(first));
  }
  ExpressionPtr slice = with(with(make(Kind::slice), std::move(node)), std::move(first));
  in_.expect_symbol(":");
  slice = with(std::move(slice), bound());
  slice = with(std::move(slice), in_.take_symbol(":") ? bound() : nullptr);
  in_.expect_symbol("]");
  return slice;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr node) {
  while (true) {
    if (in_.take_symbol("|")) {
      node = with(make(Kind::filter, in_.expect_identifier()), std::move(node));
      if (in_.at_symbol("(")) node = arguments(std::move(node));
    } else if (in_.take_name("is")) {
      node = test(std::move(node));
    } else if (in_.at_symbol("(")) {
      node = arguments(with(make(Kind::call), std::move(node)));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::test(ExpressionPtr node) {
  const bool negated = in_.take_name("not");
  std::string name;
  if (in_.at_symbol("==")) {
    name = in_.next().text;
  } else {
    name = in_.expect_identifier();
  }
  node = with(make(Kind::test, name), std::move(node));
  const Token& token = in_.peek();
  const bool literal = token.kind == Token::Kind::string || token.kind == Token::Kind::integer ||
                       token.kind == Token::Kind::floating || in_.at_symbol("[") ||
                       in_.at_symbol("{");
  const bool other_name = token.kind == Token::Kind::name && token.text != "else" &&
                          token.text != "or" && token.text != "and" && token.text != "if" &&
                          token.text != "is" && token.text != "in" && token.text != "not";
  if (in_.at_symbol("(")) {
    node = arguments(std::move(node));
  } else if (literal || other_name) {
    node = with(std::move(node), postfix(primary()));
  }
  return negated ? with(make(Kind::unary, "not"), std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::arguments(ExpressionPtr node) {
  in_.expect_symbol("(");
  for (bool first = true; !in_.take_symbol(")"); first = false) {
    if (!first) {
      in_.expect_symbol(",");
      if (in_.take_symbol(")")) break;
    }
    const bool named = in_.at(Token::Kind::name) && in_.peek(1).kind == Token::Kind::symbol &&
                       in_.peek(1).text == "=";
    if (named) {
      std::string name = in_.next().text;
      in_.next();
      ExpressionPtr value = parse();
      node->depth = std::max(node->depth, value->depth + 1);
      node->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!node->named.empty()) in_.error("an argument without a name follows one with a name");
      node = with(std::move(node), parse());
    }
  }
  return node;
}

}  // namespace fastkv::jinja
