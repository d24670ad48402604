#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace fastkv {

/// Turns drawn tokens into text as it becomes certain: whole UTF-8 characters, and nothing that may
/// still turn out to be the beginning of a stop text.
class TextFilter {
 public:
  /// Without a tokenizer there is no text, and no stop.
  TextFilter(const Tokenizer* tokenizer, std::vector<std::string> stops,
             std::function<void(std::string_view)> on_text);
  /// False when a stop text is complete.
  bool add(std::int32_t token);
  /// Passes on what was held back and returns the whole text, without a stop text.
  std::string finish();

 private:
  bool take(std::string_view piece);
  void pass_on(std::size_t end);

  std::optional<StreamDecoder> decoder_;
  std::vector<std::string> stops_;
  std::function<void(std::string_view)> on_text_;
  std::string text_;
  std::size_t passed_ = 0;
  bool stopped_ = false;
};

}  // namespace fastkv
