#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/byte_level.h"
#include "text/tokenizer.h"

// Small tokenizers made here, so that tests run without any third-party vocabulary.

namespace fastkv::test {

/// Byte-level BPE: ids 0 to 255 are the bytes, then the merges' results in order, then the special
/// tokens <s> and </s>. Merges are of spellings (a space is \u0120).
inline nlohmann::json tiny_byte_level(
    const std::vector<std::pair<std::string, std::string>>& merges = {
        {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"\u0120", "w"}}) {
  nlohmann::json vocab;
  int id = 0;
  for (int b = 0; b < 256; ++b)
    vocab[spelling_of_bytes(std::string(1, static_cast<char>(b)))] = id++;
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [left, right] : merges) {
    list.push_back({left, right});
    if (!vocab.contains(left + right)) vocab[left + right] = id++;
  }
  const auto special = [](int n, const char* text) {
    return nlohmann::json{{"id", n}, {"content", text}, {"special", true}, {"normalized", false}};
  };
  return {{"added_tokens", {special(id, "<s>"), special(id + 1, "</s>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}

/// SentencePiece-like BPE with byte fallback as Llama-2's tokenizer.json has it: <unk>, <s>, </s>,
/// 256 bytes, then characters and merges' results.
inline nlohmann::json tiny_sentencepiece() {
  nlohmann::json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  const char* digits = "0123456789ABCDEF";
  int id = 3;
  for (int b = 0; b < 256; ++b) {
    vocab[std::string("<0x") + digits[b / 16] + digits[b % 16] + ">"] = id++;
  }
  for (const char* piece : {"\u2581", "a", "b", "c", "ab", "\u2581ab", "\u2581\u2581"})
    vocab[piece] = id++;
  const nlohmann::json merges = {"a b", "\u2581 ab", "\u2581 \u2581"};
  const auto special = [](int n, const char* text) {
    return nlohmann::json{{"id", n}, {"content", text}, {"special", true}, {"normalized", false}};
  };
  const auto replace = [](const char* from, const char* to) {
    return nlohmann::json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  return {
      {"added_tokens", {special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers", {{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace(" ", "\u2581")}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {replace("\u2581", " "),
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", merges}}}};
}

inline Tokenizer make(const nlohmann::json& file) {
  return Tokenizer::from_json(file.dump(), "tokenizer.json");
}

}  // namespace fastkv::test
