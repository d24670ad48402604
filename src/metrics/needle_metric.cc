#include "metrics/needle_metric.h"

#include <algorithm>

#include "metrics/answer_words.h"
#include "metrics/python_text.h"

namespace fastkv {
namespace {

std::vector<std::string> stemmed_words(std::string_view text) {
  std::vector<std::string> words = rouge_words(text);
  for (std::string& word : words) {
    if (word.size() > 3) word = porter_stem(word);
  }
  return words;
}

}  // namespace

NeedleScore needle_score(std::string_view needle, std::string_view response) {
  const std::vector<std::string> expected = stemmed_words(needle);
  const std::vector<std::string> found = stemmed_words(python_strip(response));
  NeedleScore out;
  out.overlap = multiset_overlap(expected, found);
  const auto share = [&](std::size_t words) {
    return static_cast<double>(out.overlap) / static_cast<double>(std::max<std::size_t>(1, words));
  };
  out.precision = share(found.size());
  out.recall = share(expected.size());
  const double sum = out.precision + out.recall;
  if (sum > 0) out.score = 2 * out.precision * out.recall / sum * 10;
  return out;
}

std::string_view default_needle() {
  return "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a "
         "sunny day.\n";
}

}  // namespace fastkv
