#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/test_data.h"
#include "tasks/benchmark.h"
#include "text/tokenizer.h"

namespace fastkv::test {

inline Codec codec_of(std::shared_ptr<const Tokenizer> tokenizer) {
  return {.encode = [tokenizer](
                        std::string_view text) { return tokenizer->encode(text, Special::parse); },
          .decode =
              [tokenizer](std::span<const TokenId> ids) {
                return tokenizer->decode(ids, /*skip_special=*/true);
              }};
}

/// The bundled model's tokenizer.
inline const Codec& bundled_codec() {
  static const Codec codec = codec_of(std::make_shared<const Tokenizer>(
      Tokenizer::load(std::filesystem::path(FASTKV_SOURCE_DIR) / "models" / "needle-v2-14m")));
  return codec;
}

inline constexpr const char* llama3_file = "tokenizers/llama3/tokenizer.json.gz";
/// Needs the test data.
inline const Codec& llama3_codec() {
  static const Codec codec = codec_of(std::make_shared<const Tokenizer>(
      Tokenizer::from_json(read_file(data_dir() / llama3_file), "tokenizer.json")));
  return codec;
}

struct Collected {
  std::vector<Sample> samples;
  std::vector<Issue> issues;
};
inline Collected collect(const Benchmark& benchmark, const SampleRequest& request,
                         const Codec& codec = bundled_codec()) {
  Collected all;
  const auto take = [&](Sample sample) {
    all.samples.push_back(std::move(sample));
    return true;
  };
  benchmark.samples(request, codec, take, all.issues);
  return all;
}

inline std::string prompt_of(const Sample& sample) {
  return sample.context + sample.question + sample.answer_prefix;
}

inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

}  // namespace fastkv::test
