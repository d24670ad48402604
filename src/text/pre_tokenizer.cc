#include "text/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"

namespace fastkv {
namespace {

using Behavior = PreTokenizer::Behavior;

// What ByteLevel splits by when it has no Split before it (GPT-2).
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Piece {
  std::size_t begin, end;
  bool match;
};

/// Calls `take` for matches and what lies between them, in order.
template <class Take>
void cut(const Regex& regex, std::string_view text, const Take& take) {
  std::size_t done = 0, from = 0;
  while (from <= text.size()) {
    const auto m = regex.find(text, from);
    if (!m) break;
    if (m->begin > done) take(Piece{done, m->begin, false});
    if (m->end > m->begin) take(Piece{m->begin, m->end, true});
    done = from = m->end;
    if (m->end == m->begin) {  // an empty match is a cut; go on after the next character
      if (from >= text.size()) break;
      from += decode_utf8(text, from).length;
    }
  }
  if (done < text.size()) take(Piece{done, text.size(), false});
}

/// The pieces of the behaviours that look at neighbours.
std::vector<Piece> joined(const std::vector<Piece>& pieces, Behavior behavior) {
  std::vector<Piece> out;
  if (behavior == Behavior::merged_with_next) {
    bool next_matched = false;
    for (auto p = pieces.rbegin(); p != pieces.rend(); ++p) {
      if (p->match && !next_matched && !out.empty()) {
        out.back().begin = p->begin;
      } else {
        out.push_back(*p);
      }
      next_matched = p->match;
    }
    return {out.rbegin(), out.rend()};
  }
  bool previous_matched = false;
  for (const Piece& p : pieces) {
    const bool join = behavior == Behavior::contiguous ? p.match == previous_matched
                                                       : p.match && !previous_matched;
    if (join && !out.empty()) {
      out.back().end = p.end;
    } else {
      out.push_back(p);
    }
    previous_matched = p.match;
  }
  return out;
}

Behavior behavior_of(std::string_view name, std::string_view where) {
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail(
      "{}: the split behavior \"{}\" is not known; known are Removed, Isolated, "
      "MergedWithPrevious, MergedWithNext and Contiguous.",
      where, name);
}

}  // namespace

Regex read_pattern(const Json& owner, std::string_view where) {
  const Json& pattern = get_object(owner, "pattern", where);
  if (const auto regex = find_string(pattern, "Regex", where)) return {*regex, where};
  if (const auto text = find_string(pattern, "String", where)) return Regex::literal(*text);
  fail("{}: field \"pattern\" must be an object with \"Regex\" or \"String\".", where);
}

PreTokenizer::PreTokenizer(const Json* value, std::string_view where) {
  if (value) add(*value, where);
}

void PreTokenizer::add_split(Regex regex, Behavior behavior, bool invert) {
  steps_.emplace_back(Split{std::move(regex), behavior, invert});
}

void PreTokenizer::add(const Json& value, std::string_view where) {
  const std::string type = get_string(value, "type", where);
  if (byte_level_) {
    fail("{}: pre-tokenizer {} after ByteLevel is not supported; ByteLevel must come last.", where,
         type);
  }
  if (type == "Sequence") {
    for (const Json& step : get_array(value, "pretokenizers", where)) add(step, where);
  } else if (type == "Split") {
    add_split(read_pattern(value, where), behavior_of(get_string(value, "behavior", where), where),
              find_bool(value, "invert", where).value_or(false));
  } else if (type == "ByteLevel") {
    add_byte_level(value, where);
  } else if (type == "Metaspace") {
    add_metaspace(value, where);
  } else if (type == "Digits") {
    const bool single = find_bool(value, "individual_digits", where).value_or(false);
    add_split(Regex(R"(\p{N})", where), single ? Behavior::isolated : Behavior::contiguous);
  } else if (type == "Whitespace") {
    add_split(Regex(R"(\w+|[^\w\s]+)", where), Behavior::removed, /*invert=*/true);
  } else if (type == "WhitespaceSplit") {
    add_split(Regex(R"(\s)", where), Behavior::removed);
  } else if (type == "Punctuation") {
    const auto name = find_string(value, "behavior", where).value_or("Isolated");
    add_split(Regex(R"([!-/:-@\[-`{-~\p{P}])", where), behavior_of(name, where));
  } else {
    fail(
        "{}: pre-tokenizer \"{}\" is not supported; supported are Split, ByteLevel, Metaspace, "
        "Digits, Whitespace, WhitespaceSplit, Punctuation and Sequence.",
        where, type);
  }
}

void PreTokenizer::add_byte_level(const Json& value, std::string_view where) {
  if (find_bool(value, "add_prefix_space", where).value_or(true))
    steps_.emplace_back(PrefixSpace{});
  if (find_bool(value, "use_regex", where).value_or(true)) {
    add_split(Regex(gpt2_pattern, where), Behavior::isolated);
  }
  byte_level_ = true;
}

void PreTokenizer::add_metaspace(const Json& value, std::string_view where) {
  const std::string replacement = find_string(value, "replacement", where).value_or("\u2581");
  // Files from before prepend_scheme say add_prefix_space instead.
  std::string scheme =
      find_bool(value, "add_prefix_space", where).value_or(true) ? "always" : "never";
  scheme = find_string(value, "prepend_scheme", where).value_or(scheme);
  Metaspace step{replacement, Metaspace::Prepend::never};
  if (scheme == "first") {
    step.prepend = Metaspace::Prepend::first;
  } else if (scheme == "always") {
    step.prepend = Metaspace::Prepend::always;
  } else if (scheme != "never") {
    fail("{}: Metaspace's prepend_scheme must be always, first or never, but it is \"{}\".", where,
         scheme);
  }
  steps_.emplace_back(std::move(step));
  if (find_bool(value, "split", where).value_or(true)) {
    add_split(Regex::literal(replacement), Behavior::merged_with_next);
  }
}

void PreTokenizer::split(std::string_view text, bool at_start, std::deque<std::string>& storage,
                         const Sink& sink) const {
  run(0, text, at_start, storage, sink);
}

void PreTokenizer::run(std::size_t index, std::string_view text, bool at_start,
                       std::deque<std::string>& storage, const Sink& sink) const {
  if (text.empty()) return;
  if (index == steps_.size()) {
    sink(text);
    return;
  }
  const Step& step = steps_[index];
  if (std::holds_alternative<PrefixSpace>(step)) {
    if (text.front() != ' ') text = storage.emplace_back(1, ' ').append(text);
    return run(index + 1, text, at_start, storage, sink);
  }
  if (const auto* metaspace = std::get_if<Metaspace>(&step)) {
    std::string changed;
    changed.reserve(text.size() + text.size() / 2);
    for (char c : text) {
      if (c == ' ') {
        changed += metaspace->replacement;
      } else {
        changed += c;
      }
    }
    using Prepend = Metaspace::Prepend;
    const bool wanted =
        metaspace->prepend == Prepend::always || (metaspace->prepend == Prepend::first && at_start);
    if (wanted && !changed.starts_with(metaspace->replacement)) {
      changed.insert(0, metaspace->replacement);
    }
    return run(index + 1, storage.emplace_back(std::move(changed)), at_start, storage, sink);
  }

  const Split& split = std::get<Split>(step);
  const auto emit = [&](const Piece& p) {
    run(index + 1, text.substr(p.begin, p.end - p.begin), at_start && p.begin == 0, storage, sink);
  };
  if (split.behavior == Behavior::isolated || split.behavior == Behavior::removed) {
    cut(split.regex, text, [&](const Piece& p) {
      if (split.behavior == Behavior::isolated || p.match == split.invert) emit(p);
    });
    return;
  }
  std::vector<Piece> pieces;
  cut(split.regex, text, [&](Piece p) {
    p.match = p.match != split.invert;
    pieces.push_back(p);
  });
  for (const Piece& p : joined(pieces, split.behavior)) emit(p);
}

}  // namespace fastkv
