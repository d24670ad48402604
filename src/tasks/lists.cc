#include "tasks/lists.h"

#include <charconv>

#include "core/error.h"

namespace fastkv {

std::vector<std::int64_t> parse_integers(std::string_view text, Range<std::int64_t> range,
                                         std::string_view option) {
  std::vector<std::int64_t> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    std::int64_t number = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error != std::errc() || stop != part.data() + part.size() || number < range.low ||
        number > range.high) {
      fail("--{} takes whole numbers from {} to {} with commas between, e.g. {},{}; '{}' is none.",
           option, range.low, range.high, range.low, range.low + 1, part);
    }
    numbers.push_back(number);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace fastkv
