#include "eval/sweep.h"

#include <algorithm>

#include "core/error.h"

namespace fastkv {
namespace {

bool has_option(const MethodInfo& method, const std::string& name) {
  return std::any_of(method.options.begin(), method.options.end(),
                     [&](const OptionInfo& o) { return o.name == name; });
}

std::vector<const MethodInfo*> chosen_methods(const std::string& methods,
                                              const std::vector<MethodInfo>& known) {
  std::vector<const MethodInfo*> chosen;
  std::string names;
  for (const MethodInfo& info : known) {
    names += (names.empty() ? "" : ", ") + info.name;
    if (methods == "all") chosen.push_back(&info);
  }
  if (methods == "all") return chosen;
  for (const std::string& name : split_list(methods)) {
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const MethodInfo& m) { return m.name == name; });
    if (found == known.end()) fail("there is no method '{}'; the methods are {}", name, names);
    chosen.push_back(&*found);
  }
  return chosen;
}

}  // namespace

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::vector<MethodChoice> sweep(const std::string& methods, const OptionValues& values,
                                const std::vector<MethodInfo>& known) {
  const std::vector<const MethodInfo*> chosen = chosen_methods(methods, known);
  for (const auto& [name, list] : values) {
    if (std::none_of(chosen.begin(), chosen.end(),
                     [&](const MethodInfo* m) { return has_option(*m, name); })) {
      fail("none of the methods {} has an option --{}", methods, name);
    }
  }
  std::vector<MethodChoice> all;
  for (const MethodInfo* method : chosen) {
    std::vector<MethodChoice> choices = {{method->name, {}}};
    for (const auto& [name, list] : values) {
      if (!has_option(*method, name)) continue;
      std::vector<MethodChoice> longer;
      for (const MethodChoice& choice : choices) {
        for (const std::string& value : split_list(list)) {
          longer.push_back(choice);
          longer.back().options[name] = value;
        }
      }
      choices = std::move(longer);
    }
    for (MethodChoice& choice : choices) {
      const bool again = std::any_of(all.begin(), all.end(), [&](const MethodChoice& other) {
        return other.name == choice.name && other.options == choice.options;
      });
      if (!again) all.push_back(std::move(choice));
    }
  }
  return all;
}

}  // namespace fastkv
