#include "tasks/truncate.h"

#include <algorithm>

namespace fastkv {

Ends truncate_middle(std::string_view text, std::int64_t limit, const Codec& codec) {
  const std::vector<TokenId> ids = codec.encode(text);
  if (static_cast<std::int64_t>(ids.size()) <= limit) return {std::string(text), "", false};
  const std::span<const TokenId> all(ids);
  const auto half = static_cast<std::size_t>(std::max<std::int64_t>(limit, 0) / 2);
  return {codec.decode(all.first(half)), codec.decode(all.last(half)), true};
}

void truncate_middle(Sample& sample, std::int64_t limit, const Codec& codec) {
  Ends ends = truncate_middle(sample.context + sample.question, limit, codec);
  if (!ends.cut) return;
  if (ends.tail.ends_with(sample.question)) {
    sample.context = ends.head + ends.tail.substr(0, ends.tail.size() - sample.question.size());
    return;
  }
  const std::int64_t half = limit / 2, asked = codec.count(sample.question);
  if (asked < half) {  // its text has a special token's name in it, which decoding leaves out
    const std::vector<TokenId> ids = codec.encode(sample.context);
    const std::span<const TokenId> all(ids);
    sample.context = codec.decode(all.first(static_cast<std::size_t>(half))) +
                     codec.decode(all.last(static_cast<std::size_t>(half - asked)));
  } else {  // a question longer than half of the limit
    sample.context = std::move(ends.head);
    sample.question = std::move(ends.tail);
  }
}

}  // namespace fastkv
