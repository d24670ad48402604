#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace fastkv::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// A node of an expression; which fields count depends on `kind`.
struct Expression {
  enum class Kind {
    literal,      // value
    name,         // text
    list,         // parts
    dict,         // parts: key, value, key, value, ...
    attribute,    // parts[0].text
    index,        // parts[0][parts[1]]
    slice,        // parts[0][parts[1]:parts[2]:parts[3]], null where left out
    call,         // parts[0](parts[1], ..., named)
    filter,       // parts[0] | text(parts[1], ..., named)
    test,         // parts[0] is text(parts[1], ...)
    unary,        // text parts[0]
    binary,       // parts[0] text parts[1]
    comparison,   // parts[0] texts[0] parts[1] texts[1] parts[2] ...
    conditional,  // parts[0] if parts[1] else parts[2], which may be null
  };
  Kind kind = Kind::literal;
  int line = 0;
  int depth = 1;  // levels of nodes; bounded, since nodes are walked recursively
  std::string text;
  Value value;
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> texts;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

using Body = std::vector<Statement>;

/// A statement of a template; which fields count depends on `kind`.
struct Statement {
  enum class Kind {
    text,       // text
    output,     // condition
    branch,     // if: body when condition holds, else otherwise
    loop,       // for names in condition if filter: body; otherwise where nothing was visited
    set,        // names (one, or several to unpack, or name.attribute) = condition
    set_block,  // names = what body prints
    macro,      // text(names = defaults): body
    block,      // body
    break_loop,
    continue_loop,
  };
  Kind kind = Kind::text;
  int line = 0;
  std::string text;
  std::vector<std::string> names;
  std::string attribute;
  ExpressionPtr condition, filter;
  std::vector<ExpressionPtr> defaults;  // of a macro's last parameters; null where there is none
  Body body, otherwise;
};

/// Parses a template. Throws Error with the line for what is broken or not supported.
Body parse_template(std::string_view source);

}  // namespace fastkv::jinja
