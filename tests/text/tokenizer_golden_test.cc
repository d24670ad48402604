// Real vocabularies against golden ids made by independent implementations.

#include <gtest/gtest.h>

#include <sstream>

#include "support/test_data.h"
#include "text/gguf_vocabulary.h"
#include "text/sentencepiece_proto.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace fastkv {
namespace {

using Ids = std::vector<std::int32_t>;

std::filesystem::path tokenizers() { return test::data_dir() / "tokenizers"; }

Tokenizer load_packed(const std::string& name) {
  return Tokenizer::from_json(test::read_file(tokenizers() / name / "tokenizer.json.gz"), name);
}

/// Checks ids, ids_plain and decoding for all rows; `parse` false: `ids` are of plain text.
void expect_golden(const Tokenizer& tokenizer, const std::string& file, std::size_t rows_expected,
                   Special mode) {
  const auto rows = test::read_jsonl(tokenizers() / file);
  EXPECT_EQ(rows.size(), rows_expected);
  int failures = 0;
  for (const auto& row : rows) {
    const auto text = row.at("text").get<std::string>();
    const auto ids = row.at("ids").get<Ids>();
    const auto plain = row.value("ids_plain", ids);
    EXPECT_EQ(tokenizer.encode(text, mode), ids) << row.at("category") << ": " << row.at("text");
    if (mode == Special::parse) {
      EXPECT_EQ(tokenizer.encode(text, Special::as_text), plain) << row.at("text");
    }
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/false), text);
    std::string streamed;
    StreamDecoder decoder(tokenizer, {.skip_special = false});
    for (const auto id : ids) {
      const std::string part = decoder.add(id);
      EXPECT_NO_THROW(nlohmann::json(part).dump()) << "half a character in the stream";
      streamed += part;
    }
    EXPECT_EQ(streamed + decoder.finish(), text);
    if (testing::Test::HasFailure() && ++failures == 5) return;
  }
}

/// The .inp/.out pairs: texts separated by a marker, ids a line each.
void expect_inp_out(const Tokenizer& tokenizer, const std::string& stem) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string texts = test::read_file(tokenizers() / (stem + ".inp"));
  std::istringstream lines(test::read_file(tokenizers() / (stem + ".out")));
  int count = 0;
  for (std::size_t begin = 0, end = 0; begin < texts.size(); begin = end + separator.size()) {
    end = texts.find(separator, begin);
    ASSERT_NE(end, std::string::npos);
    const std::string text = texts.substr(begin, end - begin);
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    std::istringstream numbers(line);
    const Ids ids{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(tokenizer.encode(text, Special::as_text), ids) << text;
    ++count;
  }
  EXPECT_EQ(count, 46);
}

TEST(TokenizerGolden, Llama3) {
  FASTKV_NEEDS_DATA("tokenizers/llama3/golden.jsonl");
  const Tokenizer tokenizer = load_packed("llama3");
  EXPECT_EQ(tokenizer.vocab_size(), 128256);
  EXPECT_EQ(tokenizer.bos_id(), 128000);
  expect_golden(tokenizer, "llama3/golden.jsonl", 660, Special::parse);
  expect_inp_out(tokenizer, "llama3/ggml-vocab-llama-bpe.gguf");
}

TEST(TokenizerGolden, MistralNemo) {
  FASTKV_NEEDS_DATA("tokenizers/tekken/golden.jsonl");
  const Tokenizer tokenizer = load_packed("mistral-nemo");
  EXPECT_EQ(tokenizer.vocab_size(), 131072);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  expect_golden(tokenizer, "tekken/golden.jsonl", 664, Special::parse);
  expect_inp_out(tokenizer, "tekken/ggml-vocab-pixtral.gguf");
}

TEST(TokenizerGolden, Ministral8B) {
  FASTKV_NEEDS_DATA("tokenizers/tekken/golden.jsonl");
  const Tokenizer tokenizer = load_packed("ministral-8b");
  EXPECT_EQ(tokenizer.bos_id(), 1);
  expect_golden(tokenizer, "tekken/golden.jsonl", 664, Special::parse);
  expect_inp_out(tokenizer, "tekken/ggml-vocab-pixtral.gguf");
}

/// The library's encoding and our own are held against the same ids.
void expect_sentencepiece(const std::string& version) {
  const auto model = tokenizers() / ("mistral-spm/tokenizer.model." + version);
  EXPECT_TRUE(read_plain_bpe(test::read_file(model)).has_value());
  for (const auto use : {SentencePieceUse::library, SentencePieceUse::own_where_equal}) {
    const Tokenizer tokenizer(tokenizer_from_sentencepiece(model, use));
    EXPECT_EQ(tokenizer.bos_id(), 1);
    EXPECT_EQ(tokenizer.eos_id(), 2);
    expect_golden(tokenizer, "mistral-spm/golden." + version + ".jsonl", 631, Special::as_text);
  }
}

TEST(TokenizerGolden, MistralSentencePieceV1) {
  FASTKV_NEEDS_DATA("tokenizers/mistral-spm/golden.v1.jsonl");
  expect_sentencepiece("v1");
}

TEST(TokenizerGolden, MistralSentencePieceV3) {
  FASTKV_NEEDS_DATA("tokenizers/mistral-spm/golden.v3.jsonl");
  expect_sentencepiece("v3");
}

TEST(TokenizerGolden, LlamaSentencePieceFromGguf) {
  FASTKV_NEEDS_DATA("tokenizers/llama-spm/ggml-vocab-llama-spm.gguf");
  const std::string file = test::read_file(tokenizers() / "llama-spm/ggml-vocab-llama-spm.gguf");
  const Tokenizer tokenizer(
      tokenizer_from_pieces(test::GgufReader(file).pieces(), /*add_dummy_prefix=*/true));
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
  expect_inp_out(tokenizer, "llama-spm/ggml-vocab-llama-spm.gguf");
}

}  // namespace
}  // namespace fastkv
