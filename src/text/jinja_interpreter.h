#pragma once

#include <string>

#include "text/jinja_ast.h"
#include "text/jinja_builtins.h"

namespace fastkv::jinja {

/// Runs a parsed template once.
class Interpreter {
 public:
  /// `variables` are what the template finds defined, beside the functions of chat templates.
  Interpreter(Dict variables, Budget& budget);

  /// What the template prints. Throws Error for what Jinja would refuse, for what is not
  /// supported, and when the template takes too much.
  std::string run(const Body& body);

 private:
  enum class Flow { go_on, break_loop, continue_loop };

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow loop(const Statement& statement);
  void set(const Statement& statement);
  void unpack(const Statement& statement, const Value& value, Dict& scope);
  std::string captured(const Body& body);
  void print(std::string_view text);

  Value evaluate(const Expression& e);
  Value name(const Expression& e);
  Value slice(const Expression& e);
  Value call(const Expression& e);
  Value call_macro(const Statement& macro, const Arguments& arguments, int line);
  Value unary(const Expression& e);
  Value binary(const Expression& e);
  Value arithmetic(const Expression& e, const Value& a, const Value& b);
  Value integer_arithmetic(const Expression& e, std::int64_t a, std::int64_t b);
  bool compare_chain(const Expression& e);
  Arguments arguments_of(const Expression& e);
  Call at(int line) const { return {budget_, line}; }

  Budget& budget_;
  std::vector<Dict> scopes_;  // [0]: the template's own
  std::size_t base_ = 0;      // a macro sees the scopes from here on, and the template's own
  std::string out_;
  int depth_ = 0;
};

}  // namespace fastkv::jinja
