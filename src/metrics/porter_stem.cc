// The Porter stemmer with the changes that NLTK makes by default: irregular words, short words, and
// rules of Porter's own later implementations. The step numbers are those of Porter's paper.

#include <algorithm>
#include <array>
#include <iterator>
#include <span>

#include "metrics/needle_metric.h"

namespace fastkv {
namespace {

using View = std::string_view;

bool is_consonant(View word, std::size_t i) {
  switch (word[i]) {
    case 'a':
    case 'e':
    case 'i':
    case 'o':
    case 'u':
      return false;
    case 'y':
      return i == 0 || !is_consonant(word, i - 1);
    default:
      return true;
  }
}

/// Porter's m: how often a vowel is followed by a consonant.
int measure(View stem) {
  int m = 0;
  for (std::size_t i = 1; i < stem.size(); ++i) {
    m += !is_consonant(stem, i - 1) && is_consonant(stem, i);
  }
  return m;
}

bool has_vowel(View stem) {
  for (std::size_t i = 0; i < stem.size(); ++i) {
    if (!is_consonant(stem, i)) return true;
  }
  return false;
}

bool ends_in_double_consonant(View word) {
  const std::size_t n = word.size();
  return n >= 2 && word[n - 1] == word[n - 2] && is_consonant(word, n - 1);
}

/// Consonant, vowel, consonant at the end, the last not w, x or y; or vowel, consonant alone.
bool ends_in_short_syllable(View word) {
  const std::size_t n = word.size();
  if (n == 2) return !is_consonant(word, 0) && is_consonant(word, 1);
  return n >= 3 && is_consonant(word, n - 3) && !is_consonant(word, n - 2) &&
         is_consonant(word, n - 1) && View("wxy").find(word[n - 1]) == View::npos;
}

bool any_stem(View) { return true; }
bool measure_above_0(View stem) { return measure(stem) > 0; }
bool measure_above_1(View stem) { return measure(stem) > 1; }

struct Rule {
  View suffix, replacement;
  bool (*condition)(View stem);
};

/// The first rule whose suffix fits decides, whether its condition holds or not.
std::string apply(std::span<const Rule> rules, View word) {
  for (const Rule& rule : rules) {
    if (!word.ends_with(rule.suffix)) continue;
    const View stem = word.substr(0, word.size() - rule.suffix.size());
    if (!rule.condition(stem)) break;
    return std::string(stem).append(rule.replacement);
  }
  return std::string(word);
}

/// `word` with the last `n` letters replaced.
std::string replace_end(View word, std::size_t n, View replacement) {
  return std::string(word.substr(0, word.size() - n)).append(replacement);
}

// Plurals.
std::string step_1a(View word) {
  if (word.ends_with("ies") && word.size() == 4) return replace_end(word, 1, "");
  static constexpr Rule rules[] = {{"sses", "ss", any_stem},
                                   {"ies", "i", any_stem},
                                   {"ss", "ss", any_stem},
                                   {"s", "", any_stem}};
  return apply(rules, word);
}

// -ed and -ing.
std::string step_1b(View word) {
  if (word.ends_with("ied")) return replace_end(word, word.size() == 4 ? 1 : 2, "");
  if (word.ends_with("eed")) {
    return measure(word.substr(0, word.size() - 3)) > 0 ? replace_end(word, 1, "")
                                                        : std::string(word);
  }
  View stem;
  if (word.ends_with("ed")) stem = word.substr(0, word.size() - 2);
  if (word.ends_with("ing")) stem = word.substr(0, word.size() - 3);
  if (!has_vowel(stem)) return std::string(word);

  for (const View end : {"at", "bl", "iz"}) {
    if (stem.ends_with(end)) return std::string(stem) + "e";
  }
  if (ends_in_double_consonant(stem)) {
    const bool keeps = View("lsz").find(stem.back()) != View::npos;
    return std::string(keeps ? stem : stem.substr(0, stem.size() - 1));
  }
  const bool is_short = measure(stem) == 1 && ends_in_short_syllable(stem);
  return std::string(stem) + (is_short ? "e" : "");
}

std::string step_1c(View word) {
  static constexpr Rule rules[] = {
      {"y", "i", [](View stem) { return stem.size() > 1 && is_consonant(stem, stem.size() - 1); }}};
  return apply(rules, word);
}

std::string step_2(View word) {
  if (word.ends_with("alli") && measure_above_0(word.substr(0, word.size() - 4))) {
    return step_2(replace_end(word, 2, ""));
  }
  static constexpr Rule rules[] = {
      {"ational", "ate", measure_above_0},
      {"tional", "tion", measure_above_0},
      {"enci", "ence", measure_above_0},
      {"anci", "ance", measure_above_0},
      {"izer", "ize", measure_above_0},
      {"bli", "ble", measure_above_0},
      {"alli", "al", measure_above_0},
      {"entli", "ent", measure_above_0},
      {"eli", "e", measure_above_0},
      {"ousli", "ous", measure_above_0},
      {"ization", "ize", measure_above_0},
      {"ation", "ate", measure_above_0},
      {"ator", "ate", measure_above_0},
      {"alism", "al", measure_above_0},
      {"iveness", "ive", measure_above_0},
      {"fulness", "ful", measure_above_0},
      {"ousness", "ous", measure_above_0},
      {"aliti", "al", measure_above_0},
      {"iviti", "ive", measure_above_0},
      {"biliti", "ble", measure_above_0},
      {"fulli", "ful", measure_above_0},
      // NLTK measures the stem with its l.
      {"logi", "log", [](View stem) { return measure(std::string(stem) + 'l') > 0; }},
  };
  return apply(rules, word);
}

std::string step_3(View word) {
  static constexpr Rule rules[] = {
      {"icate", "ic", measure_above_0}, {"ative", "", measure_above_0},
      {"alize", "al", measure_above_0}, {"iciti", "ic", measure_above_0},
      {"ical", "ic", measure_above_0},  {"ful", "", measure_above_0},
      {"ness", "", measure_above_0},
  };
  return apply(rules, word);
}

std::string step_4(View word) {
  static constexpr Rule rules[] = {
      {"al", "", measure_above_1},
      {"ance", "", measure_above_1},
      {"ence", "", measure_above_1},
      {"er", "", measure_above_1},
      {"ic", "", measure_above_1},
      {"able", "", measure_above_1},
      {"ible", "", measure_above_1},
      {"ant", "", measure_above_1},
      {"ement", "", measure_above_1},
      {"ment", "", measure_above_1},
      {"ent", "", measure_above_1},
      {"ion", "",
       [](View stem) { return measure(stem) > 1 && (stem.ends_with('s') || stem.ends_with('t')); }},
      {"ou", "", measure_above_1},
      {"ism", "", measure_above_1},
      {"ate", "", measure_above_1},
      {"iti", "", measure_above_1},
      {"ous", "", measure_above_1},
      {"ive", "", measure_above_1},
      {"ize", "", measure_above_1},
  };
  return apply(rules, word);
}

// A last e, a last double l.
std::string step_5(View word) {
  if (word.ends_with('e')) {
    const View stem = word.substr(0, word.size() - 1);
    const int m = measure(stem);
    if (m > 1 || (m == 1 && !ends_in_short_syllable(stem))) word = stem;
  }
  if (word.ends_with("ll") && measure(word.substr(0, word.size() - 1)) > 1) {
    word.remove_suffix(1);
  }
  return std::string(word);
}

}  // namespace

std::string porter_stem(std::string_view word) {
  struct Irregular {
    View word, stem;
  };
  static constexpr Irregular irregular[] = {
      {"skies", "sky"},       {"sky", "sky"},          {"dying", "die"},
      {"lying", "lie"},       {"tying", "tie"},        {"news", "news"},
      {"innings", "inning"},  {"inning", "inning"},    {"outings", "outing"},
      {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
      {"howe", "howe"},       {"proceed", "proceed"},  {"exceed", "exceed"},
      {"succeed", "succeed"},
  };
  for (const Irregular& i : irregular) {
    if (i.word == word) return std::string(i.stem);
  }
  if (word.size() <= 2) return std::string(word);
  std::string stem(word);
  for (const auto step : {step_1a, step_1b, step_1c, step_2, step_3, step_4, step_5}) {
    stem = step(stem);
  }
  return stem;
}

}  // namespace fastkv
