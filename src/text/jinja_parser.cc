#include "text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "core/error.h"

namespace fastkv::jinja {
namespace {

constexpr int max_nesting = 40;  // of blocks

class Parser {
 public:
  explicit Parser(std::string_view source) : in_(tokenize_template(source)), expressions_(in_) {}

  Body run() {
    Body body = statements({});
    if (!in_.at(Token::Kind::end)) in_.error("a tag without a beginning");
    return body;
  }

 private:
  using Kind = Statement::Kind;

  Statement make(Kind kind) const {
    Statement s;
    s.kind = kind;
    s.line = in_.peek().line;
    return s;
  }
  void end_block() { in_.expect(Token::Kind::block_end, "the tag's end (%})"); }

  /// Statements up to a tag that begins with one of `ends` (its {% and name are taken), or the
  /// template's end where there are none.
  Body statements(std::initializer_list<std::string_view> ends) {
    if (++nesting_ > max_nesting) in_.error("blocks are nested too deeply");
    Body body;
    while (true) {
      if (in_.at(Token::Kind::text)) {
        body.push_back(make(Kind::text));
        body.back().text = in_.next().text;
      } else if (in_.at(Token::Kind::variable_begin)) {
        in_.next();
        body.push_back(make(Kind::output));
        body.back().condition = expressions_.parse_tuple();
        in_.expect(Token::Kind::variable_end, "the tag's end (}})");
      } else if (in_.at(Token::Kind::block_begin)) {
        in_.next();
        const std::string name = in_.expect_identifier();
        if (std::find(ends.begin(), ends.end(), name) != ends.end()) {
          ended_by_ = name;
          break;
        }
        body.push_back(block(name));
      } else {
        if (ends.size() > 0) in_.error(fmt::format("{{% {} %}} was expected", *(ends.end() - 1)));
        break;
      }
    }
    --nesting_;
    return body;
  }

  Statement block(const std::string& name) {
    if (name == "if") return branch();
    if (name == "for") return loop();
    if (name == "set") return set();
    if (name == "macro") return macro();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) in_.error(name + " outside of a loop");
      Statement s = make(name == "break" ? Kind::break_loop : Kind::continue_loop);
      end_block();
      return s;
    }
    if (name ==
        "generation") {  // marks the assistant's text for training; here only its body counts
      Statement s = make(Kind::block);
      end_block();
      s.body = statements({"endgeneration"});
      end_block();
      return s;
    }
    in_.error(fmt::format("the tag {{% {} %}} is not supported or out of place", name));
  }

  Statement branch() {
    Statement s = make(Kind::branch);
    s.condition = expressions_.parse_tuple();
    end_block();
    s.body = statements({"elif", "else", "endif"});
    if (ended_by_ == "elif") {
      // An elif is an if in the else part; both share the one endif.
      if (++nesting_ > max_nesting) in_.error("blocks are nested too deeply");
      s.otherwise.push_back(branch());
      --nesting_;
      return s;
    }
    if (ended_by_ == "else") {
      end_block();
      s.otherwise = statements({"endif"});
    }
    end_block();
    return s;
  }

  Statement loop() {
    Statement s = make(Kind::loop);
    s.names = names();
    in_.expect_name("in");
    s.condition = expressions_.parse(/*with_condition=*/false);
    if (in_.take_name("if")) s.filter = expressions_.parse();
    if (in_.at_name("recursive")) in_.error("a recursive loop is not supported");
    end_block();
    ++loops_;
    s.body = statements({"else", "endfor"});
    --loops_;
    if (ended_by_ == "else") {
      end_block();
      s.otherwise = statements({"endfor"});
    }
    end_block();
    return s;
  }

  std::vector<std::string> names() {
    const bool bracket = in_.take_symbol("(");
    std::vector<std::string> list = {in_.expect_identifier()};
    while (in_.take_symbol(",")) list.push_back(in_.expect_identifier());
    if (bracket) in_.expect_symbol(")");
    return list;
  }

  Statement set() {
    Statement s = make(Kind::set);
    s.names = names();
    if (s.names.size() == 1 && in_.take_symbol(".")) s.attribute = in_.expect_identifier();
    if (in_.take_symbol("=")) {
      s.condition = expressions_.parse_tuple();
      end_block();
      return s;
    }
    if (in_.at_symbol("|")) in_.error("a filter on a set block is not supported");
    if (s.names.size() != 1) in_.error("\"=\" was expected");
    s.kind = Kind::set_block;
    end_block();
    s.body = statements({"endset"});
    end_block();
    return s;
  }

  Statement macro() {
    Statement s = make(Kind::macro);
    s.text = in_.expect_identifier();
    in_.expect_symbol("(");
    while (!in_.take_symbol(")")) {
      if (!s.names.empty()) in_.expect_symbol(",");
      s.names.push_back(in_.expect_identifier());
      s.defaults.push_back(in_.take_symbol("=") ? expressions_.parse() : nullptr);
    }
    end_block();
    const int loops = std::exchange(loops_, 0);
    s.body = statements({"endmacro"});
    loops_ = loops;
    if (in_.at(Token::Kind::name)) in_.next();  // the name again
    end_block();
    return s;
  }

  TokenStream in_;
  ExpressionParser expressions_;
  std::string ended_by_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

Body parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace fastkv::jinja
