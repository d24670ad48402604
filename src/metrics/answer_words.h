#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// What the question-answering metrics of several benchmarks share.

namespace fastkv {

/// Lower case, without ASCII punctuation and the articles a, an, the; split at spaces.
std::vector<std::string> english_answer_words(std::string_view text);

/// Lower case, without ASCII and Chinese punctuation and spaces. The set of Chinese marks is that
/// of the benchmarks, which has the closing but not the opening double angle bracket.
std::u32string chinese_answer_characters(std::string_view text);

/// Words of a-z and 0-9 in lower case, as Google's rouge_score has them.
std::vector<std::string> rouge_words(std::string_view text);

/// Size of the intersection of two multisets.
template <class List>
std::size_t multiset_overlap(List a, List b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  List common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return common.size();
}

/// F1 over multisets; 0 where nothing is shared.
template <class List>
double overlap_f1(const List& prediction, const List& answer) {
  const auto same = static_cast<double>(multiset_overlap(prediction, answer));
  if (same == 0) return 0.0;
  const double precision = same / static_cast<double>(prediction.size());
  const double recall = same / static_cast<double>(answer.size());
  return (2 * precision * recall) / (precision + recall);
}

}  // namespace fastkv
