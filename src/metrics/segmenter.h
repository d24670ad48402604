#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fastkv {

/// Chinese word segmentation as jieba 0.42.1 does it (accurate mode, new words by its hidden Markov
/// model). https://github.com/fxsjy/jieba
class Segmenter {
 public:
  /// Reads dict.txt and hmm.json of `directory`, each also with .gz. Throws Error where one is
  /// missing or not what it should be.
  explicit Segmenter(const std::filesystem::path& directory);
  ~Segmenter();
  Segmenter(Segmenter&&) noexcept;
  Segmenter& operator=(Segmenter&&) noexcept;

  /// The words of `text`; put together they are `text`.
  std::vector<std::string> cut(std::string_view text) const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace fastkv
