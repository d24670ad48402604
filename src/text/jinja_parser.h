#pragma once

#include <string_view>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace fastkv::jinja {

/// The parser's place in the tokens, shared by its two halves (statements and expressions).
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(std::size_t ahead = 0) const {
    const std::size_t i = pos_ + ahead;
    return tokens_[i < tokens_.size() ? i : tokens_.size() - 1];
  }
  const Token& next();
  bool at(Token::Kind kind) const { return peek().kind == kind; }
  bool at_symbol(std::string_view s) const { return at(Token::Kind::symbol) && peek().text == s; }
  bool at_name(std::string_view s) const { return at(Token::Kind::name) && peek().text == s; }
  bool take_symbol(std::string_view s);
  bool take_name(std::string_view s);
  void expect_symbol(std::string_view s);
  void expect_name(std::string_view s);
  void expect(Token::Kind kind, std::string_view what);
  std::string expect_identifier();
  [[noreturn]] void error(std::string_view what) const;

 private:
  std::vector<Token> tokens_;
  std::size_t pos_ = 0;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : in_(tokens) {}
  /// A whole expression; `with_condition` false stops before an inline if (a loop's filter).
  ExpressionPtr parse(bool with_condition = true);
  /// Like parse(), but `a, b` is a list.
  ExpressionPtr parse_tuple();

 private:
  using Kind = Expression::Kind;
  ExpressionPtr make(Kind kind, std::string text = {}) const;
  ExpressionPtr with(ExpressionPtr node, ExpressionPtr part) const;
  ExpressionPtr binary(std::string op, ExpressionPtr left, ExpressionPtr right) const;

  ExpressionPtr logic(int level);
  ExpressionPtr comparison();
  bool take_comparison(std::string& op);
  ExpressionPtr arithmetic(int level);
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr list_literal();
  ExpressionPtr dict_literal();
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr subscript(ExpressionPtr node);
  ExpressionPtr filters(ExpressionPtr node);
  ExpressionPtr test(ExpressionPtr node);
  ExpressionPtr arguments(ExpressionPtr node);

  TokenStream& in_;
  int nesting_ = 0;
};

}  // namespace fastkv::jinja
