#include "text/tokenizer_config.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/tokenizer_parts.h"

namespace fastkv {

std::optional<std::string> find_token_text(const Json& config, std::string_view key,
                                           std::string_view where) {
  const Json* value = find_field(config, key, where);
  if (!value) return std::nullopt;
  if (value->is_object()) return get_string(*value, "content", where);
  return to_text(*value, key, where);
}

namespace {

/// The id of the token that the config names under `key`; throws when the vocabulary lacks it.
std::optional<TokenId> find_token(const Json& config, std::string_view key, std::string_view where,
                                  const Vocabulary& vocabulary) {
  const auto text = find_token_text(config, key, where);
  if (!text) return std::nullopt;
  const TokenId id = vocabulary.find(*text);
  if (id < 0) {
    fail("{}: {} is \"{}\", which is not a token of the vocabulary.", where, key, *text);
  }
  return id;
}

}  // namespace

void read_tokenizer_config(const std::filesystem::path& model_dir, TokenizerParts& parts) {
  std::optional<TokenId> bos;
  std::optional<bool> add_bos;
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const auto path = model_dir / name;
    if (!std::filesystem::exists(path)) continue;
    const std::string where = path.string();
    const Json config = parse_json_file(path);
    if (const auto id = find_token(config, "bos_token", where, parts.vocabulary)) bos = id;
    if (const auto id = find_token(config, "eos_token", where, parts.vocabulary)) parts.eos = id;
    if (const auto flag = find_bool(config, "add_bos_token", where)) add_bos = flag;
  }
  // An explicit add_bos_token outweighs what the tokenizer file would do.
  if (add_bos == false) parts.bos.reset();
  if (add_bos == true && !parts.bos) parts.bos = bos;
}

}  // namespace fastkv
