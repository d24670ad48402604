#include "text/tokenizer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"
#include "text/tokenizer_parts.h"

namespace fastkv {
namespace {

const Vocabulary::Token& token_at(const Vocabulary& vocabulary, TokenId id) {
  if (id < 0 || static_cast<std::size_t>(id) >= vocabulary.size()) {
    fail("Token id {} is outside the vocabulary: ids go from 0 to {}.", id,
         static_cast<std::int64_t>(vocabulary.size()) - 1);
  }
  return vocabulary.at(id);
}

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts)
    : parts_(std::make_shared<const TokenizerParts>(std::move(parts))) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) {
  const auto json = model_dir / "tokenizer.json";
  const auto model = model_dir / "tokenizer.model";
  TokenizerParts parts;
  if (std::filesystem::exists(json)) {
    parts = tokenizer_from_json(parse_json_file(json), json.string());
  } else if (std::filesystem::exists(model)) {
    parts = tokenizer_from_sentencepiece(model);
  } else {
    fail(
        "{}: there is no tokenizer here; tokenizer.json or tokenizer.model (SentencePiece) was "
        "expected.",
        model_dir.string());
  }
  read_tokenizer_config(model_dir, parts);
  return Tokenizer(std::move(parts));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  if (path.extension() == ".json") {
    return Tokenizer(tokenizer_from_json(parse_json_file(path), path.string()));
  }
  return Tokenizer(tokenizer_from_sentencepiece(path));
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view where) {
  return Tokenizer(tokenizer_from_json(parse_json(json, where), where));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view utf8, Special special) const {
  const std::size_t bad = find_invalid_utf8(utf8);
  if (bad != std::string_view::npos) {
    fail("The text is not valid UTF-8: byte 0x{:02X} at offset {} cannot stand there.",
         static_cast<unsigned char>(utf8[bad]), bad);
  }
  if (utf8.size() > 0xFFFFFFF0u) {
    fail("The text has {} bytes; at most 4 GiB can be encoded at once.", utf8.size());
  }
  const TokenizerParts& parts = *parts_;
  const bool parse = special == Special::parse;
  EncodeCall call(utf8.size());
  std::vector<std::int32_t> ids;
  ids.reserve(utf8.size() / 4 + 8);

  parts.added.split(utf8, parse, [&](std::string_view text, TokenId id) {
    if (id >= 0) {
      ids.push_back(id);
      return;
    }
    bool at_start = text.data() == utf8.data();
    if (!parts.normalizer.empty()) text = call.storage.emplace_back(parts.normalizer.apply(text));
    parts.normalized_added.split(text, parse, [&](std::string_view part, TokenId added) {
      if (added >= 0) {
        ids.push_back(added);
      } else {
        parts.encoder->encode(part, at_start, call, ids);
      }
      at_start = false;
    });
  });
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_prompt(std::string_view utf8, bool bos) const {
  std::vector<std::int32_t> ids = encode(utf8, Special::parse);
  if (bos && parts_->bos && (ids.empty() || ids.front() != *parts_->bos)) {
    ids.insert(ids.begin(), *parts_->bos);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, {.skip_special = skip_special});
  std::string text;
  for (std::int32_t id : ids) {
    token_at(parts_->vocabulary, id);  // refuses what is no token
    text += decoder.add(id);
  }
  return text += decoder.finish();
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  return token_at(parts_->vocabulary, id).bytes;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(parts_->vocabulary.size());
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  const TokenId id = parts_->vocabulary.find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return token_at(parts_->vocabulary, id).special;
}

std::optional<std::int32_t> Tokenizer::bos_id() const { return parts_->bos; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return parts_->eos; }

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, Options options)
    : parts_(tokenizer.parts_),
      options_(options),
      strip_(options.continues ? 0 : parts_->strip_leading_spaces) {}

std::string StreamDecoder::add(std::int32_t id) {
  // A model's vocabulary may be padded beyond the tokenizer's.
  if (id < 0 || static_cast<std::size_t>(id) >= parts_->vocabulary.size()) return {};
  const Vocabulary::Token& token = parts_->vocabulary.at(id);
  if (options_.skip_special && token.special) return {};
  for (char c : token.bytes) {
    if (strip_ > 0 && c == ' ' && pending_.empty()) {
      --strip_;
      continue;
    }
    strip_ = 0;
    pending_ += c;
  }
  const std::size_t tail = incomplete_utf8_tail(pending_);
  std::string text =
      replace_invalid_utf8(std::string_view(pending_).substr(0, pending_.size() - tail));
  pending_.erase(0, pending_.size() - tail);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = replace_invalid_utf8(pending_);
  pending_.clear();
  strip_ = options_.continues ? 0 : parts_->strip_leading_spaces;
  return text;
}

}  // namespace fastkv
