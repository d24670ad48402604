#include "tasks/sentences.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "metrics/python_text.h"
#include "tasks/data_file.h"

// Positions are code points, and spaces, letters and lower case are Python's, because the
// reference is a Python program.

namespace fastkv {
namespace {

using View = std::u32string_view;
constexpr auto npos = View::npos;

// How a word was seen in the training text: in upper or lower case, at the beginning of a
// sentence, inside one, or where that was unknown.
enum Context : int {
  begin_upper = 2,
  inside_upper = 4,
  unknown_upper = 8,
  begin_lower = 16,
  inside_lower = 32,
  unknown_lower = 64,
  any_upper = begin_upper | inside_upper | unknown_upper,
  any_lower = begin_lower | inside_lower | unknown_lower,
};
enum Answer { no, yes, unknown };

const std::u32string number_type = U"##number##";

bool one_of(char32_t c, View set) { return set.find(c) != npos; }
bool is_end(char32_t c) { return one_of(c, U".?!"); }
/// Characters that are never part of a word.
bool is_nonword(char32_t c) { return one_of(c, U")\";}]*:@'({[?!"); }
bool is_ascii_space(char32_t c) { return c == U' ' || (c >= 0x09 && c <= 0x0D); }

std::u32string lower(View text) { return to_code_points(python_lower(to_utf8(text))); }
bool is_upper(char32_t c) { return lower(View(&c, 1)) != View(&c, 1); }
bool is_lower(char32_t c) {
  const std::string text = to_utf8(View(&c, 1));
  return !is_upper(c) && python_upper(text) != text;
}

/// Length of a run of hyphens, of full stops, or of spaced full stops at `at`; 0 for none.
std::size_t multi_length(View text, std::size_t at) {
  const auto run = [&](char32_t c) {
    std::size_t end = at;
    while (end < text.size() && text[end] == c) ++end;
    return end - at;
  };
  if (run(U'-') >= 2) return run(U'-');
  if (run(U'.') >= 2) return run(U'.');
  std::size_t pairs = 0;
  while (at + 2 * pairs + 1 < text.size() && text[at + 2 * pairs] == U'.' &&
         is_python_space(text[at + 2 * pairs + 1])) {
    ++pairs;
  }
  // The run ends with a full stop: after the last pair, or the last pair's own.
  if (at + 2 * pairs < text.size() && text[at + 2 * pairs] == U'.' && pairs >= 2) {
    return 2 * pairs + 1;
  }
  return pairs >= 3 ? 2 * pairs - 1 : 0;
}

bool ends_word(View text, std::size_t at, bool after_comma = false) {
  if (at >= text.size() || is_python_space(text[at]) || is_nonword(text[at])) return true;
  if (multi_length(text, at) > 0) return true;
  return !after_comma && text[at] == U',' && ends_word(text, at + 1, /*after_comma=*/true);
}

/// -?[.,]?\d[\d,.-]*\.?
bool is_number(View text) {
  std::size_t i = 0;
  if (i < text.size() && text[i] == U'-') ++i;
  if (i < text.size() && one_of(text[i], U".,")) ++i;
  if (i >= text.size() || !is_python_digit(text[i])) return false;
  for (++i; i < text.size(); ++i) {
    if (!is_python_digit(text[i]) && !one_of(text[i], U",.-")) return false;
  }
  return true;
}

/// Where a sentence may end.
struct Candidate {
  std::size_t end = 0;    // just after the full stop
  std::size_t after = 0;  // end of the text after it that is looked at
  std::size_t next = 0;   // where the next sentence would begin
  std::size_t word = 0;   // where the word before it begins
};

std::optional<Candidate> candidate_at(View text, std::size_t at) {
  if (!is_end(text[at]) || at + 1 == text.size()) return {};
  const std::size_t end = at + 1;
  if (is_nonword(text[end])) return Candidate{.end = end, .after = end + 1, .next = end};
  if (!is_python_space(text[end])) return {};
  std::size_t next = end;
  while (next < text.size() && is_python_space(text[next])) ++next;
  if (next == text.size()) return {};
  std::size_t after = next;
  while (after < text.size() && !is_python_space(text[after])) ++after;
  return Candidate{.end = end, .after = after, .next = next};
}

std::vector<Candidate> candidates_of(View text) {
  std::vector<Candidate> found;
  std::size_t word_begin = 0;
  std::size_t word_end = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    auto candidate = candidate_at(text, at);
    if (!candidate) continue;
    // The word begins after the last space since the candidate before; a space at the very
    // beginning of that stretch is overlooked, as in the reference.
    std::size_t begin = word_begin;
    for (std::size_t i = at; i-- > word_end + 1;) {
      if (is_ascii_space(text[i])) {
        begin = i + 1;
        break;
      }
    }
    if (!found.empty() && begin < word_end) found.pop_back();  // "!!!": the last one counts
    word_begin = candidate->word = begin;
    word_end = at;
    found.push_back(*candidate);
  }
  return found;
}

struct Span {
  std::size_t begin = 0, end = 0;
};

/// Length of closing quotes and brackets at the beginning of a sentence with the space after them
/// (`whole`) and without (`marks`), when they belong to the sentence before.
struct Closing {
  std::size_t marks = 0, whole = 0;
};
Closing closing_marks(View sentence) {
  std::size_t marks = 0;
  while (marks < sentence.size() && one_of(sentence[marks], U"\"')]}")) ++marks;
  if (marks == 0) return {};
  std::size_t whole = marks;
  while (whole < sentence.size() && is_python_space(sentence[whole])) ++whole;
  const bool ends =
      whole > marks || marks == sentence.size() || sentence.substr(marks, 2) == View(U"--");
  return ends ? Closing{marks, whole} : Closing{};
}

std::vector<Span> realign(View text, const std::vector<Span>& spans) {
  std::vector<Span> result;
  std::size_t moved = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    Span span{spans[i].begin + moved, spans[i].end};
    moved = 0;
    if (i + 1 < spans.size()) {
      const Span& next = spans[i + 1];
      const Closing closing = closing_marks(text.substr(next.begin, next.end - next.begin));
      if (closing.marks > 0) {
        span.end = next.begin + closing.marks;
        moved = closing.whole;
      }
    }
    if (span.begin < span.end) result.push_back(span);
  }
  return result;
}

}  // namespace

struct SentenceSplitter::Token {
  std::u32string text, type;
  bool sentence_break = false, abbreviation = false, ellipsis = false;

  explicit Token(View token) : text(token), type(lower(token)) {
    if (is_number(type)) type = number_type;
  }
  bool ends_in_period() const { return text.ends_with(U'.'); }
  bool is_initial() const {
    return text.size() == 2 && text[1] == U'.' && is_python_word(text[0]) &&
           !is_python_digit(text[0]);
  }
  std::u32string type_without_period() const {
    return type.size() > 1 && type.ends_with(U'.') ? type.substr(0, type.size() - 1) : type;
  }
  std::u32string type_without_end() const { return sentence_break ? type_without_period() : type; }
};

SentenceSplitter::SentenceSplitter()
    : abbreviations_{U"mr", U"mrs", U"ms",  U"dr",  U"prof", U"st",  U"jr", U"sr",
                     U"vs", U"etc", U"e.g", U"i.e", U"co",   U"inc", U"ltd"} {}

SentenceSplitter SentenceSplitter::load(const std::filesystem::path& path) {
  const std::string where = path.filename().string();
  const Json json = parse_json(read_packed_file(path), where);
  const auto word = [&](const Json& value, const char* key) {
    return to_code_points(to_text(value, key, where));
  };
  SentenceSplitter splitter;
  splitter.abbreviations_.clear();
  for (const Json& item : get_array(json, "abbrev_types", where)) {
    splitter.abbreviations_.insert(word(item, "abbrev_types"));
  }
  for (const Json& item : get_array(json, "sentence_starters", where)) {
    splitter.starters_.insert(word(item, "sentence_starters"));
  }
  for (const Json& item : get_array(json, "collocations", where)) {
    if (!item.is_array() || item.size() != 2) fail("{}: collocations must be pairs.", where);
    splitter.collocations_.emplace(word(item[0], "collocations"), word(item[1], "collocations"));
  }
  for (const auto& [key, value] : get_object(json, "ortho_context", where).items()) {
    splitter.contexts_[to_code_points(key)] =
        static_cast<int>(to_int(value, "ortho_context", where));
  }
  return splitter;
}

std::vector<SentenceSplitter::Token> SentenceSplitter::tokens_of(View text) const {
  std::vector<Token> tokens;
  for (std::size_t at = 0; at < text.size();) {
    if (is_python_space(text[at])) {
      ++at;
      continue;
    }
    std::size_t length = multi_length(text, at);
    if (length == 0) {
      length = 1;
      if (!one_of(text[at], U"(\"`{[:;&#*@)}]-,")) {
        while (!ends_word(text, at + length)) ++length;
      }
    }
    tokens.emplace_back(text.substr(at, length));
    at += length;
  }
  return tokens;
}

int SentenceSplitter::context_of(const std::u32string& type) const {
  const auto found = contexts_.find(type);
  return found == contexts_.end() ? 0 : found->second;
}

/// Whether the way a token is written says that it begins a sentence.
int SentenceSplitter::begins_sentence(const Token& token) const {
  if (token.text.size() == 1 && one_of(token.text[0], U";:,.!?")) return no;
  const int context = context_of(token.type_without_end());
  const char32_t first = token.text[0];
  if (is_upper(first) && (context & any_lower) && !(context & inside_upper)) return yes;
  if (is_lower(first) && ((context & any_upper) || !(context & begin_lower))) return no;
  return unknown;
}

/// What a token alone says.
void SentenceSplitter::mark(Token& token) const {
  const std::u32string& text = token.text;
  if (text.size() == 1 && is_end(text[0])) {
    token.sentence_break = true;
  } else if (text.size() >= 2 && text.find_first_not_of(U'.') == npos) {
    token.ellipsis = true;
  } else if (token.ends_in_period() && !text.ends_with(U"..")) {
    const std::u32string word = lower(View(text).substr(0, text.size() - 1));
    const std::u32string tail = word.substr(word.rfind(U'-') + 1);  // npos + 1 is 0: all of it
    token.abbreviation = abbreviations_.contains(word) || abbreviations_.contains(tail);
    token.sentence_break = !token.abbreviation;
  }
}

/// What the next token adds.
void SentenceSplitter::mark_pair(Token& token, const Token& next) const {
  if (!token.ends_in_period()) return;
  const std::u32string type = token.type_without_period();
  const std::u32string next_type = next.type_without_end();
  const bool initial = token.is_initial();
  const auto no_break = [&] {
    token.sentence_break = false;
    token.abbreviation = true;
  };
  if (collocations_.contains({type, next_type})) return no_break();

  const int begins = begins_sentence(next);
  const bool next_upper = is_upper(next.text[0]);
  if ((token.abbreviation || token.ellipsis) && !initial &&
      (begins == yes || (next_upper && starters_.contains(next_type)))) {
    token.sentence_break = true;
    return;
  }
  if (initial || type == number_type) {
    if (begins == no) return no_break();
    if (begins == unknown && initial && next_upper && !(context_of(next_type) & any_lower)) {
      return no_break();
    }
  }
}

bool SentenceSplitter::has_break(View context) const {
  std::vector<Token> tokens;
  for (std::size_t begin = 0; begin <= context.size();) {
    const std::size_t end = std::min(context.find(U'\n', begin), context.size());
    for (Token& token : tokens_of(context.substr(begin, end - begin))) {
      tokens.push_back(std::move(token));
    }
    begin = end + 1;
  }
  for (Token& token : tokens) mark(token);
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    mark_pair(tokens[i], tokens[i + 1]);
    if (tokens[i].sentence_break) return true;
  }
  return false;
}

std::vector<std::string> SentenceSplitter::split(std::string_view utf8) const {
  const std::u32string text = to_code_points(utf8);
  const View view(text);
  std::vector<Span> spans;
  std::size_t begin = 0;
  for (const Candidate& candidate : candidates_of(view)) {
    if (!has_break(view.substr(candidate.word, candidate.after - candidate.word))) continue;
    spans.push_back({begin, candidate.end});
    begin = candidate.next;
  }
  std::size_t end = text.size();
  while (end > begin && is_python_space(text[end - 1])) --end;
  spans.push_back({begin, end});

  std::vector<std::string> sentences;
  for (const Span& span : realign(view, spans)) {
    sentences.push_back(to_utf8(view.substr(span.begin, span.end - span.begin)));
  }
  return sentences;
}

}  // namespace fastkv
