#include "metrics/longbench_metrics.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/error.h"
#include "core/utf8.h"
#include "metrics/answer_words.h"
#include "metrics/python_text.h"
#include "metrics/sequence_match.h"

namespace fastkv {
namespace {

double ratio(std::size_t part, std::size_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

/// The maximal runs of decimal digits in `text`.
std::vector<std::string_view> digit_runs(std::string_view text) {
  std::vector<std::string_view> runs;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size();) {
    const CodePoint c = i < text.size() ? decode_utf8(text, i) : CodePoint{0, 1, true};
    if (!is_python_digit(c.value)) {
      if (i > begin) runs.push_back(text.substr(begin, i - begin));
      begin = i + c.length;
    }
    i += c.length;
  }
  return runs;
}

/// The digits after the first `word` that has digits right behind it; empty where there is none.
std::string_view number_after(std::string_view word, std::string_view text) {
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const std::string_view rest = text.substr(at + word.size());
    const auto runs = digit_runs(rest);
    if (!runs.empty() && runs[0].data() == rest.data()) return runs[0];
  }
  return {};
}

double paragraph_retrieval(std::string_view prediction, std::string_view answer,
                           std::string_view word) {
  const std::string_view number = number_after(word, answer);
  if (number.empty()) {
    fail("the answer of a retrieval task must name a paragraph, \"{}12\", but it is \"{}\".", word,
         answer.substr(0, 60));
  }
  return count_score(prediction, number);
}

}  // namespace

// Words and numbers.

double qa_f1(std::string_view prediction, std::string_view answer) {
  return overlap_f1(english_answer_words(prediction), english_answer_words(answer));
}

double qa_f1_zh(std::string_view prediction, std::string_view answer, const Segmenter& segmenter) {
  const auto words = [&](std::string_view text) {
    std::vector<std::u32string> kept;
    for (const std::string& word : segmenter.cut(text)) {
      std::u32string characters = chinese_answer_characters(word);
      if (!characters.empty()) kept.push_back(std::move(characters));
    }
    return kept;
  };
  return overlap_f1(words(prediction), words(answer));
}

double count_score(std::string_view prediction, std::string_view answer) {
  const auto runs = digit_runs(prediction);
  if (runs.empty()) return 0.0;
  return ratio(static_cast<std::size_t>(std::count(runs.begin(), runs.end(), answer)), runs.size());
}

double retrieval(std::string_view prediction, std::string_view answer) {
  return paragraph_retrieval(prediction, answer, "Paragraph ");
}

double retrieval_zh(std::string_view prediction, std::string_view answer) {
  return paragraph_retrieval(prediction, answer, "段落");
}

double classification(std::string_view prediction, std::string_view answer,
                      std::span<const std::string> classes) {
  std::vector<std::string_view> named;
  for (const std::string& c : classes) {
    if (prediction.find(c) != prediction.npos) named.push_back(c);
  }
  // The reference removes from the list that it walks, so the one after a removed one is skipped.
  for (std::size_t i = 0; i < named.size(); ++i) {
    const std::string_view c = named[i];
    if (c != answer && answer.find(c) != answer.npos) {
      named.erase(std::find(named.begin(), named.end(), c));
    }
  }
  const bool right = std::find(named.begin(), named.end(), answer) != named.end();
  return right ? 1.0 / static_cast<double>(named.size()) : 0.0;
}

// ROUGE-L.

namespace {

/// Sentences end at full stops alone. One of nothing but spaces has one word, the empty one.
std::vector<std::vector<std::uint32_t>> sentences(std::string_view text, WordIds& ids) {
  std::vector<std::vector<std::uint32_t>> found;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    if (end > begin) {
      std::vector<std::string> words = python_split(text.substr(begin, end - begin));
      if (words.empty()) words.emplace_back();
      found.push_back(ids.ids(words));
    }
    begin = end + 1;
  }
  return found;
}

std::size_t count_distinct(const std::vector<std::vector<std::uint32_t>>& sentences) {
  std::unordered_set<std::uint32_t> words;
  for (const auto& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return words.size();
}

}  // namespace

double rouge_l(std::string_view prediction, std::string_view answer) {
  WordIds ids;
  const auto predicted = sentences(prediction, ids);
  const auto expected = sentences(answer, ids);
  if (predicted.empty() || expected.empty()) return 0.0;
  std::unordered_set<std::uint32_t> common;
  for (const auto& e : expected) {
    for (const auto& p : predicted) {
      for (const auto& [i, _] : lcs_positions(e, p)) common.insert(e[i]);
    }
  }
  const double recall = ratio(common.size(), count_distinct(expected));
  const double precision = ratio(common.size(), count_distinct(predicted));
  return 2.0 * ((precision * recall) / (precision + recall + 1e-8));
}

double rouge_l_zh(std::string_view prediction, std::string_view answer,
                  const Segmenter& segmenter) {
  const auto spaced = [&](std::string_view text) {
    std::string out;
    for (const std::string& word : segmenter.cut(text)) {
      if (!out.empty()) out += ' ';
      out += word;
    }
    return out;
  };
  return rouge_l(spaced(prediction), spaced(answer));
}

// Code.

namespace {

std::string_view first_line_of_code(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (line.find_first_of("`#") == line.npos && line.find("//") == line.npos) return line;
    begin = end + 1;
  }
  return {};
}

/// fuzzywuzzy's ratio, 0 to 100.
int fuzzy_ratio(std::string_view first, std::string_view second, CodeSimilarity kind) {
  if (first == second) return 100;
  if (first.empty() || second.empty()) return 0;
  const std::u32string a = to_code_points(first);
  const std::u32string b = to_code_points(second);
  // An edit distance whose replacements cost two comes to the longest common subsequence.
  const std::size_t same = kind == CodeSimilarity::difflib
                               ? difflib_matches(a, b)
                               : lcs_length(std::vector<std::uint32_t>(a.begin(), a.end()),
                                            std::vector<std::uint32_t>(b.begin(), b.end()));
  const double share = 2.0 * static_cast<double>(same) / static_cast<double>(a.size() + b.size());
  return static_cast<int>(python_round(100 * share, 0));
}

}  // namespace

double code_similarity(std::string_view prediction, std::string_view answer, CodeSimilarity kind) {
  return fuzzy_ratio(first_line_of_code(prediction), answer, kind) / 100.0;
}

}  // namespace fastkv
