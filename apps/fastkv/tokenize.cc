#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "command.h"
#include "fastkv/text.h"
#include "output.h"

namespace fastkv::cli {
namespace {

using Json = nlohmann::ordered_json;

struct TokenizeOptions {
  std::string model;
  std::string jsonl;
  bool no_bos = false;
  bool decode = false;

  void visit(OptionVisitor& v) {
    v.text("model", "DIR", model, "directory with the tokenizer (default: the bundled model)");
    v.text("jsonl", "FILE", jsonl,
           "read rows with \"text\" or \"messages\" (\"ids\" with --decode), - for standard input");
    v.flag("no-bos", no_bos, "put no beginning-of-sequence token in front");
    v.flag("decode", decode, "turn ids into text");
  }
};

/// One row of input, in either direction. Throws Error for a row without a usable field.
Json convert(const Json& row, const Text& text, const TokenizeOptions& o) {
  if (o.decode) {
    return {{"text", text.decode(ids_of(row), /*skip_special=*/false)}};
  }
  if (!row.is_object()) throw Error("expected an object with \"text\" or \"messages\"");
  if (row.contains("messages")) {
    std::vector<ChatMessage> messages;
    for (const Json& m : row["messages"]) {
      const auto is_text = [&](const char* key) {
        return m.is_object() && m.contains(key) && m[key].is_string();
      };
      if (!is_text("role") || !is_text("content"))
        throw Error("each of \"messages\" needs the texts \"role\" and \"content\"");
      messages.push_back({m["role"], m["content"]});
    }
    const std::string rendered =
        text.render_chat(messages, row.value("add_generation_prompt", true));
    return {{"ids", text.encode(rendered, !o.no_bos)}, {"text", rendered}};
  }
  if (!row.contains("text")) throw Error("expected \"text\" or \"messages\"");
  return {{"ids", text.encode(row["text"].get<std::string>(), !o.no_bos)}};
}

int convert_rows(const Text& text, const TokenizeOptions& o) {
  std::size_t line_number = 0;
  std::string input = read_input(o.jsonl);
  for (std::size_t at = 0; at < input.size();) {
    const std::size_t end = std::min(input.find('\n', at), input.size());
    const std::string line = input.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      fmt::print("{}\n", convert(Json::parse(line), text, o).dump());
    } catch (const Error& error) {
      throw Error(fmt::format("{}, line {}: {}", o.jsonl, line_number, error.what()));
    } catch (const nlohmann::json::exception& error) {
      throw Error(fmt::format("{}, line {}: not a row of JSON with fields of the right type ({})",
                              o.jsonl, line_number, error.what()));
    }
  }
  return 0;
}

int run(std::span<const std::string> arguments) {
  TokenizeOptions o;
  refuse_words(read_arguments(arguments, o, "tokenize"), "tokenize");
  if (o.model.empty()) o.model = bundled_model();
  const Text text(o.model);
  if (!o.jsonl.empty()) return convert_rows(text, o);

  const std::string input = read_input("-");
  if (!o.decode) {
    fmt::print("{}\n", Json{{"ids", text.encode(input, !o.no_bos)}}.dump());
    return 0;
  }
  const Json ids = Json::parse(input, nullptr, /*allow_exceptions=*/false);
  if (ids.is_discarded())
    throw Error("standard input is not JSON; expected a list of ids, or {\"ids\": [...]}");
  fmt::print("{}\n", convert(ids, text, o)["text"].get<std::string>());
  return 0;
}

}  // namespace

Command tokenize_command() {
  return {.name = "tokenize",
          .summary = "Turns text or chats into token ids, or back.",
          .usage = "[--model DIR] [--jsonl FILE] [--no-bos | --decode]",
          .details =
              "Reads standard input as one text, or rows of JSON with --jsonl; prints a JSON "
              "object a row.\n",
          .options = [] { return list_options(TokenizeOptions{}); },
          .method_options = false,
          .run = run};
}

}  // namespace fastkv::cli
