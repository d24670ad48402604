#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fastkv::jinja {

/// A piece of a template. Comments and the white space that tags take away are already gone.
struct Token {
  enum class Kind {
    text,            // outside of tags
    variable_begin,  // {{
    variable_end,
    block_begin,  // {%
    block_end,
    name,
    string,  // without quotes and escapes
    integer,
    floating,
    symbol,  // an operator or bracket
    end,
  };
  Kind kind = Kind::end;
  std::string text;
  int line = 1;
};

/// Cuts a template into tokens, with trim_blocks and lstrip_blocks on, as Hugging Face renders chat
/// templates. Throws Error for unknown characters and unfinished tags.
std::vector<Token> tokenize_template(std::string_view source);

}  // namespace fastkv::jinja
