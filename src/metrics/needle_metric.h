#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// The score of the needle-in-a-haystack test: 10 times ROUGE-1 F, computed as Google's rouge_score
// does with stemming (NLTK's variant of the Porter stemmer).

namespace fastkv {

struct NeedleScore {
  double score = 0;         // 0 to 10
  std::size_t overlap = 0;  // words that needle and response share, with repetition
  double precision = 0;     // overlap / words of the response
  double recall = 0;        // overlap / words of the needle
};

/// The response is taken without spaces at its ends; an empty one scores 0.
NeedleScore needle_score(std::string_view needle, std::string_view response);

/// The sentence that the published test hides.
std::string_view default_needle();

/// The stem of a lower-case word of ASCII letters and digits.
/// http://snowball.tartarus.org/algorithms/porter/stemmer.html with NLTK's extensions.
std::string porter_stem(std::string_view word);

}  // namespace fastkv
