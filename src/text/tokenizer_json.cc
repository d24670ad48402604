#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/bpe_encoder.h"
#include "text/byte_level.h"
#include "text/token_decoder.h"
#include "text/tokenizer_parts.h"

namespace fastkv {
namespace {

void read_vocabulary(const Json& model, std::string_view where, Vocabulary& vocabulary) {
  for (const auto& [name, id] : get_object(model, "vocab", where).items()) {
    const std::int64_t number = to_int(id, name, where);
    vocabulary.add(name, number, where);
    vocabulary.at(static_cast<TokenId>(number)).model = true;
  }
}

/// Options that would change ids must be absent or off.
void refuse_model_options(const Json& model, std::string_view where) {
  // Old files have no "type".
  const std::string type = find_string(model, "type", where).value_or("BPE");
  if (type != "BPE") {
    fail("{}: tokenizer model \"{}\" is not supported; BPE is.", where, type);
  }
  if (find_number(model, "dropout", where).value_or(0) != 0) {
    fail("{}: BPE dropout is not supported; set \"dropout\" to null.", where);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!find_string(model, key, where).value_or("").empty()) {
      fail("{}: BPE with \"{}\" is not supported.", where, key);
    }
  }
}

std::pair<std::string, std::string> read_merge(const Json& merge, std::string_view where) {
  if (merge.is_array() && merge.size() == 2) {
    return {to_text(merge[0], "merges", where), to_text(merge[1], "merges", where)};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  fail("{}: a merge must be \"a b\" or [\"a\", \"b\"], but it is {}.", where,
       merge.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::vector<Merge> read_merges(const Json& model, const Vocabulary& vocabulary,
                               std::string_view where) {
  const Json& list = get_array(model, "merges", where);
  std::vector<Merge> merges;
  merges.reserve(list.size());
  for (const Json& item : list) {
    const auto [left, right] = read_merge(item, where);
    const Merge merge{vocabulary.find(left), vocabulary.find(right), vocabulary.find(left + right),
                      static_cast<std::uint32_t>(merges.size())};
    if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
      fail("{}: the merge of \"{}\" and \"{}\" is of or to a token that the vocabulary lacks.",
           where, left, right);
    }
    merges.push_back(merge);
  }
  return merges;
}

/// The model's texts as they appear in input. Special tokens are left out: ordinary text must
/// never become one.
StringTable words_of(const Vocabulary& vocabulary, bool byte_level) {
  StringTable words;
  for (TokenId id = 0; id < static_cast<TokenId>(vocabulary.size()); ++id) {
    const Vocabulary::Token& token = vocabulary.at(id);
    if (!token.model || token.special) continue;
    if (!byte_level) {
      words.add(token.name, id);
    } else if (const auto bytes = bytes_of_spelling(token.name)) {
      words.add(*bytes, id);
    }
  }
  return words;
}

std::array<TokenId, 256> byte_tokens_of(const Vocabulary& vocabulary, bool byte_level) {
  std::array<TokenId, 256> tokens{};
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    tokens[static_cast<std::size_t>(b)] =
        vocabulary.find(byte_level ? spelling_of_bytes(byte) : fmt::format("<0x{:02X}>", b));
  }
  return tokens;
}

struct Added {
  std::vector<AddedToken> raw, normalized;
};

Added read_added_tokens(const Json& file, std::string_view where, Vocabulary& vocabulary) {
  Added added;
  const Json* list = find_field(file, "added_tokens", where);
  if (!list) return added;
  for (const Json& item : get_array(file, "added_tokens", where)) {
    AddedToken token;
    token.content = get_string(item, "content", where);
    const std::int64_t id = get_int(item, "id", where);
    vocabulary.add(token.content, id, where);
    token.id = static_cast<TokenId>(id);
    token.single_word = find_bool(item, "single_word", where).value_or(false);
    token.lstrip = find_bool(item, "lstrip", where).value_or(false);
    token.rstrip = find_bool(item, "rstrip", where).value_or(false);
    token.special = find_bool(item, "special", where).value_or(false);
    vocabulary.at(token.id).special = token.special;
    vocabulary.at(token.id).added = true;
    const bool normalized = find_bool(item, "normalized", where).value_or(!token.special);
    (normalized ? added.normalized : added.raw).push_back(std::move(token));
  }
  return added;
}

/// The token that a TemplateProcessing puts in front of a prompt.
std::optional<TokenId> bos_of_template(const Json& processor, const Vocabulary& vocabulary,
                                       std::string_view where) {
  std::optional<TokenId> bos;
  bool text_seen = false;
  for (const Json& piece : get_array(processor, "single", where)) {
    if (find_field(piece, "Sequence", where)) {
      text_seen = true;
      continue;
    }
    const std::string name = get_string(get_object(piece, "SpecialToken", where), "id", where);
    if (text_seen) {
      fail("{}: the post-processor puts {} after the text, which is not supported.", where, name);
    }
    if (bos) {
      fail("{}: the post-processor puts several tokens before the text, which is not supported.",
           where);
    }
    const Json& tokens = get_object(processor, "special_tokens", where);
    const Json& ids = get_array(get_object(tokens, name, where), "ids", where);
    if (ids.size() != 1) {
      fail("{}: the post-processor's token {} must have one id, but it has {}.", where, name,
           ids.size());
    }
    const std::int64_t id = to_int(ids[0], "ids", where);
    if (id < 0 || id >= std::int64_t(vocabulary.size())) {
      fail("{}: the post-processor's token {} has the id {}, outside the vocabulary of {}.", where,
           name, id, vocabulary.size());
    }
    bos = static_cast<TokenId>(id);
  }
  return bos;
}

std::optional<TokenId> read_post_processor(const Json* processor, const Vocabulary& vocabulary,
                                           std::string_view where) {
  if (!processor) return std::nullopt;
  const std::string type = get_string(*processor, "type", where);
  if (type == "ByteLevel") return std::nullopt;  // moves offsets, leaves ids alone
  if (type == "TemplateProcessing") return bos_of_template(*processor, vocabulary, where);
  if (type == "Sequence") {
    std::optional<TokenId> bos;
    for (const Json& step : get_array(*processor, "processors", where)) {
      const auto found = read_post_processor(&step, vocabulary, where);
      if (found && bos) fail("{}: two post-processors put a token before the text.", where);
      if (found) bos = found;
    }
    return bos;
  }
  fail(
      "{}: post-processor \"{}\" is not supported; supported are TemplateProcessing, ByteLevel "
      "and Sequence.",
      where, type);
}

}  // namespace

TokenizerParts tokenizer_from_json(const Json& file, std::string_view where) {
  TokenizerParts parts;
  Vocabulary& vocabulary = parts.vocabulary;
  const Json& model = get_object(file, "model", where);
  refuse_model_options(model, where);
  read_vocabulary(model, where, vocabulary);
  const std::vector<Merge> merges = read_merges(model, vocabulary, where);

  Bpe::Options options;
  options.ignore_merges = find_bool(model, "ignore_merges", where).value_or(false);
  options.byte_fallback = find_bool(model, "byte_fallback", where).value_or(false);
  options.fuse_unk = find_bool(model, "fuse_unk", where).value_or(false);
  if (const auto unk = find_string(model, "unk_token", where)) {
    options.unk = vocabulary.find(*unk);
    if (options.unk < 0) {
      fail("{}: the unknown token \"{}\" is not in the vocabulary.", where, *unk);
    }
  }
  PreTokenizer pre_tokenizer(find_field(file, "pre_tokenizer", where), where);
  options.byte_level = pre_tokenizer.byte_level();

  Added added = read_added_tokens(file, where, vocabulary);
  parts.normalizer = Normalizer(find_field(file, "normalizer", where), where);
  for (AddedToken& token : added.normalized) {
    token.content = parts.normalizer.apply(token.content);
  }
  parts.added = AddedTokens(std::move(added.raw));
  parts.normalized_added = AddedTokens(std::move(added.normalized));

  const TokenDecoder decoder(find_field(file, "decoder", where), where);
  parts.strip_leading_spaces = decoder.strip();
  bool cut_before_spaces = !options.byte_level && !options.ignore_merges;
  for (TokenId id = 0; id < static_cast<TokenId>(vocabulary.size()); ++id) {
    Vocabulary::Token& token = vocabulary.at(id);
    if (has_inner_space_mark(token.name)) cut_before_spaces = false;
    if (!token.added) token.bytes = decoder.bytes_of(token.name);
  }
  parts.bos = read_post_processor(find_field(file, "post_processor", where), vocabulary, where);

  StringTable words = words_of(vocabulary, options.byte_level);
  if (words.find("\u2581") < 0) cut_before_spaces = false;
  parts.encoder = std::make_unique<BpeEncoder>(
      std::move(pre_tokenizer),
      Bpe(options, std::move(words), byte_tokens_of(vocabulary, options.byte_level), merges),
      cut_before_spaces);
  return parts;
}

}  // namespace fastkv
