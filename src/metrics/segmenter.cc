#include "metrics/segmenter.h"

#include <zlib.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"
#include "metrics/python_text.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;
using Text = std::u32string_view;
constexpr double impossible = -3.14e100;  // what jieba takes for the logarithm of zero

// Reading.

/// NAME or NAME.gz of the directory, unpacked.
std::string read_table(const fs::path& directory, const std::string& name) {
  fs::path path = directory / name;
  if (!fs::exists(path)) path += ".gz";
  if (!fs::exists(path)) {
    fail(
        "{}: this file of jieba's is missing (or {}.gz); Chinese words need a directory with "
        "dict.txt and hmm.json, see docs/scoring.md.",
        (directory / name).string(), name);
  }
  const gzFile file = gzopen(path.c_str(), "rb");  // passes plain files through
  if (!file) fail("{}: cannot open this file.", path.string());
  std::string text;
  std::vector<char> buffer(1 << 16);
  int n = 0;
  while ((n = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  gzclose(file);
  if (n < 0) fail("{}: unpacking this file failed; it is damaged.", path.string());
  return text;
}

/// Word frequencies as a tree of characters.
class Dictionary {
 public:
  explicit Dictionary(const std::string& text, const std::string& where) {
    next_.reserve(600'000);
    std::size_t line_number = 0;
    double total = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      ++line_number;
      if (python_strip(line).empty()) continue;
      total += static_cast<double>(add(line, fmt::format("{}, line {}", where, line_number)));
    }
    if (!(total > 0)) fail("{}: this dictionary has no words.", where);
    log_total_ = std::log(total);
  }

  static constexpr std::uint32_t root = 0;
  /// The node behind `node` by one character; `root` where no word goes on so.
  std::uint32_t step(std::uint32_t node, char32_t c) const {
    const auto found = next_.find(key(node, c));
    return found == next_.end() ? root : found->second;
  }
  /// 0 for the beginning of a word that is none itself.
  std::int64_t frequency(std::uint32_t node) const { return frequency_[node]; }
  std::int64_t frequency(Text word) const {
    std::uint32_t node = root;
    for (const char32_t c : word) {
      node = step(node, c);
      if (node == root) return 0;
    }
    return frequency_[node];
  }
  double log_total() const { return log_total_; }

 private:
  static std::uint64_t key(std::uint32_t node, char32_t c) { return std::uint64_t{node} << 21 | c; }

  /// A line "word frequency [tag]"; returns the frequency.
  std::int64_t add(std::string_view line, const std::string& where) {
    const std::size_t space = line.find(' ');
    std::int64_t frequency = -1;
    if (space != line.npos && space > 0) {
      std::from_chars(line.data() + space + 1, line.data() + line.size(), frequency);
    }
    if (frequency < 0) fail("{}: expected a word, a space and its frequency.", where);
    std::uint32_t node = root;
    for (const char32_t c : to_code_points(line.substr(0, space))) {
      const auto [at, is_new] =
          next_.emplace(key(node, c), static_cast<std::uint32_t>(frequency_.size()));
      if (is_new) frequency_.push_back(0);
      node = at->second;
    }
    frequency_[node] = frequency;
    return frequency;
  }

  std::unordered_map<std::uint64_t, std::uint32_t> next_;
  std::vector<std::int64_t> frequency_ = {0};  // by node
  double log_total_ = 0;
};

/// Where in a word a character stands: begin, middle, end, or a word of its own. In the order of
/// the letters, which decides ties.
enum State : std::size_t { B, E, M, S };
constexpr std::array state_names = {"B", "E", "M", "S"};
constexpr std::size_t states = state_names.size();

/// Logarithms of probabilities.
struct HiddenMarkovModel {
  std::array<double, states> start = {};
  std::array<std::array<double, states>, states> trans = {};  // [from][to]
  std::unordered_map<char32_t, std::array<double, states>> emit;

  HiddenMarkovModel(const std::string& text, const std::string& where) {
    const Json json = parse_json(text, where);
    const Json& starts = get_object(json, "start", where);
    const Json& transitions = get_object(json, "trans", where);
    const Json& emissions = get_object(json, "emit", where);
    for (std::size_t s = 0; s < states; ++s) {
      start[s] = get_number(starts, state_names[s], where);
      const Json& to = get_object(transitions, state_names[s], where);
      for (std::size_t t = 0; t < states; ++t) {
        trans[s][t] = find_number(to, state_names[t], where).value_or(impossible);
      }
      for (const auto& [character, value] : get_object(emissions, state_names[s], where).items()) {
        if (!value.is_number()) fail("{}: emit.{} must hold numbers.", where, state_names[s]);
        constexpr std::array<double, states> none = {impossible, impossible, impossible,
                                                     impossible};
        const char32_t c = decode_utf8(character, 0).value;
        emit.try_emplace(c, none).first->second[s] = value.get<double>();
      }
    }
  }

  double emission(State s, char32_t c) const {
    const auto found = emit.find(c);
    return found == emit.end() ? impossible : found->second[s];
  }
};

// Which characters go together.

bool is_han(char32_t c) { return c >= 0x4E00 && c <= 0x9FD5; }
bool is_ascii_alnum(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool is_word_part(char32_t c) {
  return is_han(c) || is_ascii_alnum(c) || Text(U"+#&._%-").find(c) != Text::npos;
}

/// Calls use(run, whether its characters satisfy `test`) for the maximal runs of `text`.
template <class Test, class Use>
void for_runs(Text text, Test test, Use use) {
  for (std::size_t begin = 0; begin < text.size();) {
    const bool kind = test(text[begin]);
    std::size_t end = begin + 1;
    while (end < text.size() && test(text[end]) == kind) ++end;
    use(text.substr(begin, end - begin), kind);
    begin = end;
  }
}

/// Characters of the match of [a-zA-Z0-9]+(\.\d+)?%? at the beginning of `text`, which satisfies
/// is_ascii_alnum() there.
std::size_t latin_word_length(Text text) {
  std::size_t n = 0;
  while (n < text.size() && is_ascii_alnum(text[n])) ++n;
  if (n + 1 < text.size() && text[n] == U'.' && is_python_digit(text[n + 1])) {
    ++n;
    while (n < text.size() && is_python_digit(text[n])) ++n;
  }
  if (n < text.size() && text[n] == U'%') ++n;
  return n;
}

using Words = std::vector<std::string>;

void emit_word(Words& out, Text word) {
  if (!word.empty()) out.push_back(to_utf8(word));
}

void emit_characters(Words& out, Text text) {
  for (std::size_t i = 0; i < text.size(); ++i) emit_word(out, text.substr(i, 1));
}

/// Text without word characters: each character by itself, but a line's end of two is one word.
void cut_other(Words& out, Text text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = text.substr(i).starts_with(U"\r\n") ? 2 : 1;
    emit_word(out, text.substr(i, n));
    i += n;
  }
}

/// The most probable states of a run of Han characters.
std::vector<State> viterbi(const HiddenMarkovModel& model, Text text) {
  // Only these can come before.
  static constexpr std::array<std::array<State, 2>, states> before = {{
      {E, S},  // B
      {B, M},  // E
      {B, M},  // M
      {E, S},  // S
  }};
  std::vector<std::array<State, states>> came_from(text.size());
  std::array<double, states> score;
  for (const State s : {B, E, M, S}) score[s] = model.start[s] + model.emission(s, text[0]);
  for (std::size_t t = 1; t < text.size(); ++t) {
    std::array<double, states> now;
    for (const State s : {B, E, M, S}) {
      const double emission = model.emission(s, text[t]);
      const auto [first, second] = before[s];
      const double by_first = score[first] + model.trans[first][s] + emission;
      const double by_second = score[second] + model.trans[second][s] + emission;
      const bool takes_second = by_second >= by_first;  // a tie goes to the later letter
      came_from[t][s] = takes_second ? second : first;
      now[s] = takes_second ? by_second : by_first;
    }
    score = now;
  }
  std::vector<State> path(text.size());
  path.back() = score[S] >= score[E] ? S : E;
  for (std::size_t t = text.size() - 1; t > 0; --t) path[t - 1] = came_from[t][path[t]];
  return path;
}

void cut_han_by_model(Words& out, const HiddenMarkovModel& model, Text text) {
  const std::vector<State> path = viterbi(model, text);
  std::size_t word = 0;  // where the open word begins
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (path[i] == B) word = i;
    if (path[i] == S) word = i;
    if (path[i] == E || path[i] == S) {
      emit_word(out, text.substr(word, i + 1 - word));
      done = i + 1;
    }
  }
  emit_word(out, text.substr(done));
}

/// Characters that the dictionary put into no word.
void cut_by_model(Words& out, const HiddenMarkovModel& model, Text text) {
  for_runs(text, is_han, [&](Text run, bool han) {
    if (han) {
      cut_han_by_model(out, model, run);
      return;
    }
    std::size_t rest = 0;
    for (std::size_t i = 0; i < run.size();) {
      if (!is_ascii_alnum(run[i])) {
        ++i;
        continue;
      }
      emit_word(out, run.substr(rest, i - rest));
      const std::size_t n = latin_word_length(run.substr(i));
      emit_word(out, run.substr(i, n));
      rest = i += n;
    }
    emit_word(out, run.substr(rest));
  });
}

/// For each position the end of the word there, on the most probable way through the text.
std::vector<std::size_t> best_ends(const Dictionary& dictionary, Text text) {
  std::vector<double> score(text.size() + 1, 0.0);
  std::vector<std::size_t> ends(text.size());
  for (std::size_t k = text.size(); k-- > 0;) {
    // A character that begins no word stands alone, with frequency 1.
    score[k] = std::log(1.0) - dictionary.log_total() + score[k + 1];
    ends[k] = k + 1;
    bool any = false;
    std::uint32_t node = Dictionary::root;
    for (std::size_t x = k; x < text.size(); ++x) {
      node = dictionary.step(node, text[x]);
      if (node == Dictionary::root) break;
      const std::int64_t frequency = dictionary.frequency(node);
      if (frequency == 0) continue;
      const double s =
          std::log(static_cast<double>(frequency)) - dictionary.log_total() + score[x + 1];
      if (!any || s >= score[k]) {  // a tie goes to the longer word
        score[k] = s;
        ends[k] = x + 1;
      }
      any = true;
    }
  }
  return ends;
}

}  // namespace

struct Segmenter::Tables {
  Dictionary dictionary;
  HiddenMarkovModel model;

  /// Text of word characters alone.
  void cut(Words& out, Text text) const {
    const std::vector<std::size_t> ends = best_ends(dictionary, text);
    std::size_t loose = 0;  // single characters that wait, from here on
    const auto flush = [&](std::size_t end) {
      const Text waiting = text.substr(loose, end - loose);
      if (waiting.size() == 1 || dictionary.frequency(waiting) > 0) {
        emit_characters(out, waiting);
      } else {
        cut_by_model(out, model, waiting);
      }
    };
    for (std::size_t k = 0; k < text.size(); k = ends[k]) {
      if (ends[k] - k == 1) continue;
      flush(k);
      emit_word(out, text.substr(k, ends[k] - k));
      loose = ends[k];
    }
    flush(text.size());
  }
};

Segmenter::Segmenter(const fs::path& directory)
    : tables_(new Tables{
          Dictionary(read_table(directory, "dict.txt"), (directory / "dict.txt").string()),
          HiddenMarkovModel(read_table(directory, "hmm.json"),
                            (directory / "hmm.json").string())}) {}
Segmenter::~Segmenter() = default;
Segmenter::Segmenter(Segmenter&&) noexcept = default;
Segmenter& Segmenter::operator=(Segmenter&&) noexcept = default;

std::vector<std::string> Segmenter::cut(std::string_view text) const {
  Words words;
  const std::u32string characters = to_code_points(text);
  for_runs(characters, is_word_part, [&](Text run, bool word_part) {
    if (word_part) {
      tables_->cut(words, run);
    } else {
      cut_other(words, run);
    }
  });
  return words;
}

}  // namespace fastkv
