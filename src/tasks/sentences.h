#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fastkv {

/// Cuts English text into sentences as NLTK's Punkt does (Kiss and Strunk 2006,
/// https://aclanthology.org/J06-4003), because RULER puts its needles between these. What Punkt
/// learned from a corpus comes from a file; without one a few abbreviations are known, which is
/// enough to cut, though not always in the same place.
class SentenceSplitter {
 public:
  SentenceSplitter();
  /// Reads NLTK's English parameters: a JSON object with abbrev_types, collocations,
  /// sentence_starters and ortho_context. May be packed. Throws Error.
  static SentenceSplitter load(const std::filesystem::path& path);

  /// The sentences in order, without the white space between them. Invalid UTF-8 is replaced.
  std::vector<std::string> split(std::string_view text) const;

 private:
  struct Token;
  std::vector<Token> tokens_of(std::u32string_view text) const;
  bool has_break(std::u32string_view context) const;
  void mark(Token& token) const;
  void mark_pair(Token& token, const Token& next) const;
  int begins_sentence(const Token& token) const;
  int context_of(const std::u32string& type) const;

  std::set<std::u32string> abbreviations_;
  std::set<std::pair<std::u32string, std::u32string>> collocations_;
  std::set<std::u32string> starters_;
  std::map<std::u32string, int> contexts_;  // how a word was written where, as bits
};

}  // namespace fastkv
