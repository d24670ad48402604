#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

// How much two sequences have in common.

namespace fastkv {

/// Gives each distinct word a number.
class WordIds {
 public:
  std::uint32_t id(const std::string& word) {
    return ids_.emplace(word, static_cast<std::uint32_t>(ids_.size())).first->second;
  }
  std::vector<std::uint32_t> ids(const std::vector<std::string>& words) {
    std::vector<std::uint32_t> out;
    out.reserve(words.size());
    for (const std::string& word : words) out.push_back(id(word));
    return out;
  }
  /// Number of distinct words so far.
  std::size_t size() const { return ids_.size(); }

 private:
  std::unordered_map<std::string, std::uint32_t> ids_;
};

/// Length of the longest common subsequence.
std::size_t lcs_length(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b);

/// Positions (in a, in b) of one longest common subsequence, last first. Of the many it is the one
/// that is read back from the table t of the prefixes' lengths by this rule: from (i, j), equal
/// elements are taken; else it goes to (i-1, j) if t[i-1][j] > t[i][j-1], else to (i, j-1).
std::vector<std::pair<std::size_t, std::size_t>> lcs_positions(std::span<const std::uint32_t> a,
                                                               std::span<const std::uint32_t> b);

/// Characters in the blocks that Python's difflib.SequenceMatcher(None, a, b) matches.
std::size_t difflib_matches(std::u32string_view a, std::u32string_view b);

}  // namespace fastkv
