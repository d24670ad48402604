#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tasks/sample.h"

namespace fastkv {

/// A text whose middle was cut out, as its two ends.
struct Ends {
  std::string head, tail;
  bool cut = false;  // false: `head` is the whole text
};

/// Cuts tokens out of the middle: the first and the last `limit / 2` (rounded down) stay, as in
/// LongBench's and InfiniteBench's scripts. A text of up to `limit` tokens stays whole. Where the
/// ends meet, encoding the text again may give a few tokens more or less.
Ends truncate_middle(std::string_view text, std::int64_t limit, const Codec& codec);

/// The same for a sample's context + question; where the question ends is kept.
void truncate_middle(Sample& sample, std::int64_t limit, const Codec& codec);

}  // namespace fastkv
