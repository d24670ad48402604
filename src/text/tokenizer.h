#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv {

struct TokenizerParts;

/// What becomes of special tokens that a text spells out.
enum class Special {
  parse,    // "<|eot_id|>" in the text is that token
  as_text,  // it is nine characters and more; nothing in the text can steer the model
};

/// Text to token ids and back. Const use is thread-safe. See docs/tokenizers.md for the formats
/// and features taken.
class Tokenizer {
 public:
  /// From a checkpoint directory: tokenizer.json, else tokenizer.model (SentencePiece). Throws
  /// Error when neither exists, a file is broken, or it asks for something that is not supported.
  static Tokenizer load(const std::filesystem::path& model_dir);
  /// From one file: tokenizer.json when its name ends in ".json", else SentencePiece.
  static Tokenizer from_file(const std::filesystem::path& path);
  /// From the text of a tokenizer.json; `where` names it in messages.
  static Tokenizer from_json(std::string_view json, std::string_view where);

  explicit Tokenizer(TokenizerParts parts);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The text's ids, without BOS or EOS. Throws Error when the text is not valid UTF-8.
  std::vector<std::int32_t> encode(std::string_view utf8, Special special) const;
  /// encode(text, Special::parse); with `bos`, and where the model has one, begun by exactly one
  /// BOS: none is added to a text that already spells it.
  std::vector<std::int32_t> encode_prompt(std::string_view utf8, bool bos) const;

  /// The text of the ids as valid UTF-8; what is not becomes U+FFFD. Throws Error for ids outside
  /// the vocabulary.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;
  /// The bytes that one token stands for, perhaps a part of a character.
  std::string token_bytes(std::int32_t id) const;

  /// One more than the greatest id.
  std::int64_t vocab_size() const;
  /// The id of a token by its spelling in the file ("<s>", "\u0120the"); nothing when unknown.
  std::optional<std::int32_t> id_of(std::string_view token) const;
  bool is_special(std::int32_t id) const;
  /// The token that belongs in front of a prompt, if the model wants one.
  std::optional<std::int32_t> bos_id() const;
  /// The tokenizer's own end token; generation_config.json may name more.
  std::optional<std::int32_t> eos_id() const;

 private:
  friend class StreamDecoder;
  std::shared_ptr<const TokenizerParts> parts_;
};

/// Decodes one id at a time. The texts returned, put together, are what Tokenizer::decode gives
/// for all ids; none begins or ends inside a UTF-8 character. Keeps the tokenizer's data alive.
class StreamDecoder {
 public:
  struct Options {
    bool skip_special = true;
    /// The ids go on after others, so a space at their beginning belongs to the text.
    bool continues = false;
  };
  StreamDecoder(const Tokenizer& tokenizer, Options options);
  explicit StreamDecoder(const Tokenizer& tokenizer) : StreamDecoder(tokenizer, Options{}) {}

  /// The text that is certain with this id; empty when a character is not complete yet.
  std::string add(std::int32_t id);
  /// The rest at the end: an incomplete character becomes U+FFFD. Begins anew.
  std::string finish();

 private:
  std::shared_ptr<const TokenizerParts> parts_;
  Options options_;
  int strip_ = 0;        // leading spaces still to be taken away
  std::string pending_;  // an incomplete character, at most three bytes
};

}  // namespace fastkv
