#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fastkv {

/// Words that keys and lists are drawn from, each list sorted and without doubles.
struct WordLists {
  std::vector<std::string> nouns, adjectives, verbs;
  /// For lists with more words than nouns, adjectives and verbs are.
  std::vector<std::string> more;

  /// The project's own: common English words, and compounds of two nouns in `more`.
  static const WordLists& own();
  /// nounlist.txt, adjectivelist.txt, verblist.txt of `directory` or of its folder wonderwords
  /// (https://github.com/mrmaxguns/wonderwordsmodule), which RULER uses, and english_words.json
  /// where it is there. Throws Error.
  static WordLists load(const std::filesystem::path& directory);

  /// `count` different words at most: nouns, adjectives and verbs, sorted; where these are fewer,
  /// the longer list instead.
  std::vector<std::string> all(std::size_t count) const;
};

}  // namespace fastkv
