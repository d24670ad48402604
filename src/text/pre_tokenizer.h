#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace fastkv {

/// Cuts text into the words that BPE works on: the `pre_tokenizer` of tokenizer.json.
class PreTokenizer {
 public:
  /// What becomes of the places that a split's pattern matches.
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

  PreTokenizer() = default;
  /// Throws Error for types and options that are not supported. `value` may be null.
  PreTokenizer(const Json* value, std::string_view where);

  /// True when words are to be taken as bytes (a ByteLevel step).
  bool byte_level() const { return byte_level_; }
  /// True when text is one word.
  bool keeps_whole() const { return steps_.empty(); }

  using Sink = std::function<void(std::string_view)>;
  /// Calls `sink` for each word of `text`, in order. Words lie in `text`, or in a string added to
  /// `storage` where a step changes characters. `at_start`: the text begins the whole input.
  void split(std::string_view text, bool at_start, std::deque<std::string>& storage,
             const Sink& sink) const;

  /// Adds a step that cuts where `regex` matches.
  void add_split(Regex regex, Behavior behavior, bool invert = false);

 private:
  struct Split {
    Regex regex;
    Behavior behavior;
    bool invert;  // the pattern describes what lies between the places
  };
  struct PrefixSpace {};  // ByteLevel's add_prefix_space
  struct Metaspace {
    std::string replacement;  // for spaces
    enum class Prepend { never, first, always } prepend;
  };
  using Step = std::variant<Split, PrefixSpace, Metaspace>;

  void add(const Json& value, std::string_view where);
  void add_byte_level(const Json& value, std::string_view where);
  void add_metaspace(const Json& value, std::string_view where);
  void run(std::size_t step, std::string_view text, bool at_start, std::deque<std::string>& storage,
           const Sink& sink) const;

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

/// The pattern of a Split or Replace: {"Regex": ...} or {"String": ...}.
Regex read_pattern(const Json& owner, std::string_view where);

}  // namespace fastkv
