#include "tasks/ruler_text.h"

#include <algorithm>
#include <utility>

namespace fastkv {

std::string join(const Strings& parts, std::string_view between) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += between;
    text += parts[i];
  }
  return text;
}

Strings insert_lines(Strings lines, const Strings& inserted, bool in_order, Random& random) {
  std::vector<std::size_t> at = random.sample(lines.size(), inserted.size());
  if (in_order) std::sort(at.begin(), at.end());
  std::vector<std::pair<std::size_t, const std::string*>> places;
  for (std::size_t i = 0; i < at.size(); ++i) places.emplace_back(at[i], &inserted[i]);
  // From behind, so that no insertion moves another one's place.
  std::sort(places.rbegin(), places.rend());
  for (const auto& [place, text] : places) {
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(place), *text);
  }
  return lines;
}

}  // namespace fastkv
