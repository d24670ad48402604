// Longest common subsequences are computed 64 columns at a time (Hyyro 2004, "Bit-parallel
// LCS-length computation revisited"). Row i of the table t is kept as differences: bit j-1 is 0
// where t[i][j] = t[i][j-1] + 1 and 1 where the two are equal.

#include "metrics/sequence_match.h"

#include <algorithm>
#include <array>
#include <bit>

namespace fastkv {
namespace {

using Word = std::uint64_t;
constexpr std::size_t word_bits = 64;

/// Where each element occurs in a sequence.
class Positions {
 public:
  template <class Sequence>
  explicit Positions(const Sequence& sequence) {
    order_.reserve(sequence.size());
    for (std::size_t i = 0; i < sequence.size(); ++i) {
      order_.emplace_back(static_cast<std::uint32_t>(sequence[i]), static_cast<std::uint32_t>(i));
    }
    std::sort(order_.begin(), order_.end());
  }

  using Entry = std::pair<std::uint32_t, std::uint32_t>;  // element, position
  /// Ascending positions of one element.
  std::span<const Entry> of(std::uint32_t element) const {
    const auto first = std::lower_bound(order_.begin(), order_.end(), Entry{element, 0});
    auto last = first;
    while (last != order_.end() && last->first == element) ++last;
    return {first, last};
  }

 private:
  std::vector<Entry> order_;
};

/// Computes rows of the table of a sequence b.
class LcsRows {
 public:
  explicit LcsRows(std::span<const std::uint32_t> b)
      : positions_(b), match_((b.size() + word_bits - 1) / word_bits) {}

  std::size_t words() const { return match_.size(); }
  std::vector<Word> first() const { return std::vector<Word>(words(), ~Word{0}); }

  /// The row below `row` for an element of the other sequence; `next` may be `row`.
  void step(std::uint32_t element, const Word* row, Word* next) {
    const auto found = positions_.of(element);
    for (const auto& [_, j] : found) match_[j / word_bits] |= Word{1} << (j % word_bits);
    Word carry = 0;
    for (std::size_t w = 0; w < match_.size(); ++w) {
      const Word v = row[w];
      const Word matched = v & match_[w];
      const Word partial = v + matched;
      const Word sum = partial + carry;
      carry = static_cast<Word>(partial < v) | static_cast<Word>(sum < partial);
      next[w] = sum | (v & ~match_[w]);
    }
    for (const auto& [_, j] : found) match_[j / word_bits] = 0;
  }

 private:
  Positions positions_;
  std::vector<Word> match_;  // scratch: bits of the positions of the current element
};

}  // namespace

std::size_t lcs_length(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b) {
  LcsRows rows(b);
  std::vector<Word> row = rows.first();
  for (const std::uint32_t element : a) rows.step(element, row.data(), row.data());
  std::size_t length = 0;
  for (const Word w : row) length += static_cast<std::size_t>(std::popcount(~w));
  return length;
}

std::vector<std::pair<std::size_t, std::size_t>> lcs_positions(std::span<const std::uint32_t> a,
                                                               std::span<const std::uint32_t> b) {
  LcsRows rows(b);
  const std::size_t words = rows.words();
  std::vector<Word> table = rows.first();  // (a.size() + 1, words)
  table.resize((a.size() + 1) * words);
  for (std::size_t i = 0; i < a.size(); ++i) {
    rows.step(a[i], table.data() + i * words, table.data() + (i + 1) * words);
  }
  std::vector<std::pair<std::size_t, std::size_t>> found;
  std::size_t i = a.size();
  std::size_t j = b.size();
  while (i > 0 && j > 0) {
    if (a[i - 1] == b[j - 1]) {
      found.emplace_back(--i, --j);
      continue;
    }
    // For different elements t[i][j] is the larger of the two neighbours, so the upper one is
    // larger than the left one exactly where the row grows at j.
    const Word bit = table[i * words + (j - 1) / word_bits] >> ((j - 1) % word_bits) & 1;
    --(bit == 0 ? i : j);
  }
  return found;
}

namespace {

/// difflib.SequenceMatcher with its automatic junk: in a b of 200 characters or more, frequent
/// ones begin no match.
class DifflibMatcher {
 public:
  DifflibMatcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b), positions_(b) {
    const std::size_t most = b.size() >= 200 ? b.size() / 100 + 1 : b.size();
    candidates_.reserve(a.size());
    for (const char32_t c : a) {
      const auto found = positions_.of(c);
      candidates_.push_back(found.size() > most ? std::span<const Positions::Entry>() : found);
    }
    for (Row& row : rows_) row.resize(b.size());
  }

  std::size_t matches() {
    std::size_t total = 0;
    std::vector<Area> areas = {{0, a_.size(), 0, b_.size()}};
    while (!areas.empty()) {
      const Area area = areas.back();
      areas.pop_back();
      const Block block = longest(area);
      if (block.size == 0) continue;
      total += block.size;
      const Area left = {area.a_begin, block.a, area.b_begin, block.b};
      const Area right = {block.a + block.size, area.a_end, block.b + block.size, area.b_end};
      for (const Area& part : {left, right}) {
        if (part.a_begin < part.a_end && part.b_begin < part.b_end) areas.push_back(part);
      }
    }
    return total;
  }

 private:
  struct Area {
    std::size_t a_begin, a_end, b_begin, b_end;
  };
  struct Block {
    std::size_t a, b, size;
  };
  /// Length of the match that ends at a position of b, valid in the row with this stamp.
  struct Run {
    std::uint64_t stamp = 0;
    std::size_t length = 0;
  };
  using Row = std::vector<Run>;

  Block longest(const Area& area) {
    Block best = {area.a_begin, area.b_begin, 0};
    ++stamp_;  // nothing of an earlier area counts
    for (std::size_t i = area.a_begin; i < area.a_end; ++i) {
      ++stamp_;
      const Row& above = rows_[(stamp_ - 1) % 2];
      Row& row = rows_[stamp_ % 2];
      const auto& all = candidates_[i];
      auto at = std::lower_bound(all.begin(), all.end(), area.b_begin,
                                 [](const auto& entry, std::size_t j) { return entry.second < j; });
      for (; at != all.end() && at->second < area.b_end; ++at) {
        const std::size_t j = at->second;
        const bool goes_on = j > 0 && above[j - 1].stamp == stamp_ - 1;
        const std::size_t length = goes_on ? above[j - 1].length + 1 : 1;
        row[j] = {stamp_, length};
        if (length > best.size) best = {i + 1 - length, j + 1 - length, length};
      }
    }
    // Frequent characters may continue a match.
    while (best.a > area.a_begin && best.b > area.b_begin && a_[best.a - 1] == b_[best.b - 1]) {
      --best.a;
      --best.b;
      ++best.size;
    }
    while (best.a + best.size < area.a_end && best.b + best.size < area.b_end &&
           a_[best.a + best.size] == b_[best.b + best.size]) {
      ++best.size;
    }
    return best;
  }

  std::u32string_view a_, b_;
  Positions positions_;
  std::vector<std::span<const Positions::Entry>> candidates_;  // for each of a, where it is in b
  std::array<Row, 2> rows_;
  std::uint64_t stamp_ = 0;
};

}  // namespace

std::size_t difflib_matches(std::u32string_view a, std::u32string_view b) {
  return DifflibMatcher(a, b).matches();
}

}  // namespace fastkv
