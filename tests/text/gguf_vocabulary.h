#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "text/tokenizer_parts.h"

// Reads the vocabulary of a GGUF file: the metadata keys tokenizer.ggml.tokens, .scores and
// .token_type. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.

namespace fastkv::test {

class GgufReader {
 public:
  explicit GgufReader(const std::string& file) : file_(file) {}

  std::vector<SentencePiece> pieces() {
    if (bytes(4) != "GGUF") throw std::runtime_error("not a GGUF file");
    take<std::uint32_t>();  // version
    take<std::uint64_t>();  // tensors
    const auto keys = take<std::uint64_t>();
    for (std::uint64_t k = 0; k < keys; ++k) {
      const std::string key = text();
      value(take<std::uint32_t>(), key);
    }
    return pieces_;
  }

 private:
  enum : std::uint32_t { string_type = 8, array_type = 9, int32_type = 5, float_type = 6 };

  std::string bytes(std::size_t n) {
    if (n > file_.size() - pos_) throw std::runtime_error("GGUF file is too short");
    pos_ += n;
    return file_.substr(pos_ - n, n);
  }
  template <class T>
  T take() {
    T v;
    std::memcpy(&v, bytes(sizeof v).data(), sizeof v);
    return v;
  }
  std::string text() { return bytes(take<std::uint64_t>()); }

  void value(std::uint32_t type, const std::string& key, std::size_t index = 0) {
    constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == array_type) {
      const auto item = take<std::uint32_t>();
      const auto count = take<std::uint64_t>();
      if (key.starts_with("tokenizer.ggml.") && pieces_.size() < count) pieces_.resize(count);
      for (std::uint64_t i = 0; i < count; ++i) value(item, key, i);
    } else if (type == string_type) {
      const std::string s = text();
      if (key == "tokenizer.ggml.tokens") pieces_[index].text = s;
    } else if (type == float_type && key == "tokenizer.ggml.scores") {
      pieces_[index].score = take<float>();
    } else if (type == int32_type && key == "tokenizer.ggml.token_type") {
      pieces_[index].type = static_cast<SentencePiece::Type>(take<std::int32_t>());
    } else {
      bytes(sizes[type]);
    }
  }

  const std::string& file_;
  std::size_t pos_ = 0;
  std::vector<SentencePiece> pieces_;
};

}  // namespace fastkv::test
