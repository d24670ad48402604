#include "metrics/infinitebench_metrics.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"
#include "metrics/answer_words.h"
#include "metrics/python_text.h"
#include "metrics/sequence_match.h"

namespace fastkv {
namespace {

constexpr InfiniteBenchTask table[] = {
    {"passkey", "Retrieve.PassKey", "first number"},
    {"number_string", "Retrieve.Number", "first number"},
    {"kv_retrieval", "Retrieve.KV", "word"},
    {"longbook_sum_eng", "En.Sum", "ROUGE-Lsum"},
    {"longbook_qa_eng", "En.QA", "F1"},
    {"longbook_choice_eng", "En.MC", "choice"},
    {"longdialogue_qa_eng", "En.Dia", "name"},
    {"longbook_qa_chn", "Zh.QA", "F1 (characters)"},
    {"code_debug", "Code.Debug", "choice"},
    {"code_run", "Code.Run", "last number"},
    {"math_calc", "Math.Calc", "correct prefix"},
    {"math_find", "Math.Find", "first number"},
};

using View = std::string_view;

// Labels.

[[noreturn]] void refuse(const InfiniteBenchTask& task, const Json& label, View expected) {
  std::string shown = label.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
  fail("the truth of {} must be {}, but it is {}.", task.name, expected, shown);
}

/// The first element of a list, or the value itself.
const Json& first_of(const InfiniteBenchTask& task, const Json& label) {
  if (!label.is_array()) return label;
  if (label.empty()) refuse(task, label, "a value or a list with one");
  return label[0];
}

/// A list of texts; a single text counts as a list of one.
std::vector<std::string> texts_of(const InfiniteBenchTask& task, const Json& label) {
  if (label.is_string()) return {label.get<std::string>()};
  const bool all_texts =
      label.is_array() &&
      std::all_of(label.begin(), label.end(), [](const Json& j) { return j.is_string(); });
  if (!all_texts) refuse(task, label, "a list of texts");
  return label.get<std::vector<std::string>>();
}

struct Choice {
  std::string text, letter;
};

Choice choice_of(const InfiniteBenchTask& task, const Json& label) {
  const std::vector<std::string> both = texts_of(task, label);
  if (both.size() != 2) refuse(task, label, "a list of the option's text and its letter");
  return {both[0], both[1]};
}

// Text.

std::string replace_characters(View text, View characters, char by) {
  std::string out(text);
  for (char& c : out) {
    if (characters.find(c) != View::npos) c = by;
  }
  return out;
}

void replace_all(std::string& text, View from, View to) {
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

void collapse_blanks(std::string& text) {
  text.erase(
      std::unique(text.begin(), text.end(), [](char a, char b) { return a == ' ' && b == ' '; }),
      text.end());
}

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

std::vector<View> ascii_digit_runs(View text) {
  std::vector<View> runs;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && is_ascii_digit(text[end])) ++end;
    if (end > i) runs.push_back(text.substr(i, end - i));
    i = std::max(end, i + 1);
  }
  return runs;
}

/// The last of `letters` on the first line that has one which stands alone; '\0' without one.
char stand_alone_letter(View text, View letters) {
  const std::u32string characters = to_code_points(text);
  const auto is_word = [&](std::size_t i) {
    return i < characters.size() && is_python_word(characters[i]);  // -1 is beyond the end, too
  };
  char last = '\0';
  for (std::size_t i = 0; i < characters.size(); ++i) {
    const char32_t c = characters[i];
    if (c == U'\n' && last != '\0') break;
    const bool listed = c < 0x80 && letters.find(static_cast<char>(c)) != View::npos;
    if (listed && !is_word(i - 1) && !is_word(i + 1)) last = static_cast<char>(c);
  }
  return last;
}

// Numbers, of any length: digits without leading zeros, behind a minus.

/// More digits are refused by Python.
constexpr std::size_t most_digits = 4300;

std::optional<std::string> canonical_digits(View digits) {
  if (digits.empty() || digits.size() > most_digits) return std::nullopt;
  const std::size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  return std::string(digits.substr(first));
}

/// The digits of any script as those of ASCII; other characters stay.
std::string ascii_digits(View text) {
  std::string out;
  for (const char32_t c : to_code_points(text)) {
    if (is_python_digit(c)) {
      out += static_cast<char>('0' + u_charDigitValue(static_cast<UChar32>(c)));
    } else {
      append_utf8(out, c);
    }
  }
  return out;
}

/// Python's int(): an optional sign, digits, and single underscores between digits.
std::optional<std::string> python_int(View text) {
  std::string rest = ascii_digits(text);
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.erase(0, 1);
  std::string digits;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    const bool joint = rest[i] == '_' && i > 0 && rest[i - 1] != '_' && i + 1 < rest.size();
    if (joint) continue;
    if (!is_ascii_digit(rest[i])) return std::nullopt;
    digits += rest[i];
  }
  std::optional<std::string> number = canonical_digits(digits);
  if (number && negative && *number != "0") number->insert(0, 1, '-');
  return number;
}

double to_double(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

/// A label that is a number, or a text that is one.
struct Number {
  std::optional<std::string> integer;  // none: `value` counts
  double value = 0;
};

Number number_of(const InfiniteBenchTask& task, const Json& label) {
  if (label.is_number_integer()) return {label.dump()};
  if (label.is_number_float()) return {std::nullopt, label.get<double>()};
  if (!label.is_string()) refuse(task, label, "a number");
  const auto text = label.get<std::string>();
  if (auto integer = python_int(python_strip(text))) return {integer};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) refuse(task, label, "a number");
  return {std::nullopt, value};
}

// Retrieval and mathematics.

bool first_number_equals(View prediction, const Json& label) {
  if (!label.is_string()) return false;  // a text never equals a number
  const auto runs = ascii_digit_runs(prediction);
  return label.get<std::string>() == (runs.empty() ? View() : runs[0]);
}

bool has_word(View prediction, const Json& label) {
  if (!label.is_string()) return false;
  const auto words = python_split(replace_characters(prediction, "\n:\"'.,?!{}", ' '));
  return std::find(words.begin(), words.end(), label.get<std::string>()) != words.end();
}

bool last_integer_equals(View prediction, const Number& label) {
  const auto words = python_split(replace_characters(prediction, "\n.`'\":", ' '));
  if (words.empty()) return false;
  const std::optional<std::string> last = python_int(words.back());
  if (!last) return false;
  return label.integer ? *last == *label.integer : to_double(*last) == label.value;
}

/// math_find: the first number, which may have a decimal point. Where the label is an integer and
/// the number has a point the reference fails; that is no point here.
bool first_decimal_equals(View prediction, const Number& label) {
  const std::string text = ascii_digits(prediction);
  const auto runs = ascii_digit_runs(text);
  if (runs.empty()) return false;
  const View whole = runs[0];
  const auto end = static_cast<std::size_t>(whole.data() + whole.size() - text.data());
  const bool has_point = end + 1 < text.size() && text[end] == '.' && is_ascii_digit(text[end + 1]);
  if (label.integer) return !has_point && canonical_digits(whole) == label.integer;
  std::string number(whole);
  if (has_point) number.append(".").append(runs[1]);
  return to_double(number) == label.value;
}

double correct_prefix(const InfiniteBenchTask& task, View prediction, const Json& label,
                      bool drops_first) {
  const bool nested = label.is_array() && label.size() == 1 && label[0].is_array();
  const Json& values = nested ? label[0] : label;
  if (!values.is_array() || values.empty()) refuse(task, label, "a list of numbers");
  std::vector<View> runs = ascii_digit_runs(prediction);
  if (drops_first && !runs.empty()) runs.erase(runs.begin());
  std::size_t right = 0;
  while (right < std::min(values.size(), runs.size()) &&
         canonical_digits(runs[right]) == number_of(task, values[right]).integer) {
    ++right;
  }
  return static_cast<double>(right) / static_cast<double>(values.size());
}

// Names and choices.

bool names_someone(const InfiniteBenchTask& task, View prediction, const Json& label,
                   InfiniteBenchScorer scorer) {
  const std::vector<std::string> names = texts_of(task, label);
  const View stripped = python_strip(prediction);
  if (scorer == InfiniteBenchScorer::v2) {
    const std::string text = python_upper(stripped);
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return text.find(python_upper(name)) != text.npos;
    });
  }
  if (names.empty()) refuse(task, label, "a list with a name");
  const auto words = python_split(replace_characters(stripped, "\n:\"'.,?!{}", ' '));
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return python_upper(word) == names[0]; });
}

bool begins_with_choice(View text, const Choice& choice) {
  return text.starts_with(choice.letter) || text.starts_with(choice.text);
}

/// Whether the right choice stands behind the first of `phrases` that occurs; none: no phrase does.
std::optional<bool> choice_behind(View text, std::initializer_list<View> phrases,
                                  const Choice& choice) {
  for (const View phrase : phrases) {
    const std::size_t at = text.find(phrase);
    if (at == View::npos) continue;
    const View rest = text.substr(at + phrase.size());
    if (rest.empty()) return false;
    // Whatever follows the phrase is taken for a blank.
    return begins_with_choice(rest.substr(decode_utf8(rest, 0).length), choice);
  }
  return std::nullopt;
}

bool chooses_function(View prediction, const Choice& choice, InfiniteBenchScorer scorer) {
  const bool v2 = scorer == InfiniteBenchScorer::v2;
  const View stripped = python_strip(prediction);
  if (v2) {
    const char letter = stand_alone_letter(stripped, "ABCDEFGHIJ");
    if (letter != '\0' && choice.letter == View(&letter, 1)) return true;
  } else if (stripped.starts_with(choice.letter + ".") ||
             stripped.starts_with(choice.letter + ":")) {
    return true;
  }
  std::string text = replace_characters(stripped, "\n`'\"-*", ' ');
  replace_all(text, "Option", " ");
  replace_all(text, "option", " ");
  collapse_blanks(text);
  if (v2 && begins_with_choice(text, choice)) return true;
  return choice_behind(text, {"answer is:", "is:", "answer:", "correct option is:"}, choice)
      .value_or(false);
}

bool chooses_option(View prediction, const Choice& choice, InfiniteBenchScorer scorer) {
  constexpr View letters = "ABCD";
  const View stripped = python_strip(prediction);
  const auto is_choice = [&](View text) { return text == choice.text || text == choice.letter; };
  if (scorer == InfiniteBenchScorer::v2) {
    const char letter = stand_alone_letter(stripped, letters);
    if (letter != '\0' && is_choice(View(&letter, 1))) return true;
  }
  if (stripped.empty()) return false;
  if (letters.find(stripped[0]) != View::npos) return stripped.substr(0, 1) == choice.letter;
  if (is_choice(stripped)) return true;
  std::string text = replace_characters(stripped, "\n\"'.,?!{}", ' ');
  collapse_blanks(text);
  const auto behind =
      choice_behind(text, {"answer is:", "answer:", "answer is", "option is"}, choice);
  if (behind) return *behind;
  for (const std::string& word : python_split(text)) {
    if (letters.find(word) != View::npos) return is_choice(word);
  }
  return false;
}

template <class Words>
double best_f1(View prediction, std::span<const std::string> labels, Words words) {
  const auto predicted = words(prediction);
  double best = 0.0;
  for (const std::string& label : labels)
    best = std::max(best, overlap_f1(predicted, words(label)));
  return best;
}

}  // namespace

std::span<const InfiniteBenchTask> infinitebench_tasks() { return table; }

const InfiniteBenchTask* find_infinitebench_task(View name) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const InfiniteBenchTask& t) { return t.name == name; });
  return found == std::end(table) ? nullptr : found;
}

double infinitebench_qa_eng(View prediction, std::span<const std::string> labels) {
  return best_f1(prediction, labels, english_answer_words);
}

double infinitebench_qa_chn(View prediction, std::span<const std::string> labels) {
  return best_f1(prediction, labels, chinese_answer_characters);
}

double rouge_lsum(View prediction, View reference) {
  WordIds ids;
  std::size_t words = 0;  // of the text that was read last
  const auto lines = [&](View text) {
    std::vector<std::vector<std::uint32_t>> found;
    words = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      found.push_back(ids.ids(rouge_words(text.substr(begin, end - begin))));
      words += found.back().size();
      begin = end + 1;
    }
    return found;
  };
  const auto predicted = lines(prediction);
  const std::size_t predicted_words = words;
  const auto expected = lines(reference);
  const std::size_t expected_words = words;
  if (predicted_words == 0 || expected_words == 0) return 0.0;

  // A word of the reference counts where some line of the prediction aligns with it, but no word
  // more often than the prediction has it.
  std::map<std::uint32_t, std::size_t> left;
  for (const auto& line : predicted) {
    for (const std::uint32_t word : line) ++left[word];
  }
  std::size_t hits = 0;
  for (const auto& line : expected) {
    std::vector<bool> aligned(line.size());
    for (const auto& p : predicted) {
      // The prediction comes first: the read-back then breaks ties as rouge_score does.
      for (const auto& [_, at] : lcs_positions(p, line)) aligned[at] = true;
    }
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (!aligned[i] || left[line[i]] == 0) continue;
      --left[line[i]];
      ++hits;
    }
  }
  const double recall = static_cast<double>(hits) / static_cast<double>(expected_words);
  const double precision = static_cast<double>(hits) / static_cast<double>(predicted_words);
  const double sum = precision + recall;
  return sum > 0 ? 2 * precision * recall / sum : 0.0;
}

double infinitebench_score(const InfiniteBenchTask& task, View prediction, const Json& label,
                           InfiniteBenchScorer scorer, bool drops_first) {
  const bool v1 = scorer == InfiniteBenchScorer::v1;
  const View name = task.name;
  if (name == "passkey" || name == "number_string") {
    return first_number_equals(prediction, first_of(task, label));
  }
  if (name == "kv_retrieval") {
    if (v1 && label.is_array()) return 0.0;  // a list is no word
    return has_word(prediction, first_of(task, label));
  }
  if (name == "code_run") {
    return last_integer_equals(prediction, number_of(task, first_of(task, label)));
  }
  if (name == "math_find") {
    return first_decimal_equals(prediction, number_of(task, first_of(task, label)));
  }
  if (name == "math_calc") return correct_prefix(task, prediction, label, drops_first);
  if (name == "longdialogue_qa_eng") return names_someone(task, prediction, label, scorer);
  if (name == "code_debug") {
    return chooses_function(prediction, choice_of(task, label), scorer);
  }
  if (name == "longbook_choice_eng") {
    return chooses_option(prediction, choice_of(task, label), scorer);
  }
  const std::vector<std::string> labels = texts_of(task, label);
  if (name == "longbook_qa_eng") return infinitebench_qa_eng(prediction, labels);
  if (name == "longbook_qa_chn") return infinitebench_qa_chn(prediction, labels);
  double best = 0.0;  // longbook_sum_eng
  for (const std::string& l : labels) best = std::max(best, rouge_lsum(prediction, l));
  return best;
}

double infinitebench_mean(std::span<const double> scores) {
  double sum = 0;
  for (const double s : scores) sum += s;
  return sum / static_cast<double>(scores.size());
}

}  // namespace fastkv
