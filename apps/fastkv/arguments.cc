#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "command.h"

namespace fastkv::cli {
namespace {

const OptionInfo* find(const std::vector<OptionInfo>& known, std::string_view name) {
  for (const OptionInfo& info : known) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

/// The known name that begins like the wrong one, for a hint.
std::string suggestion(const std::vector<OptionInfo>& known, std::string_view name) {
  const std::string_view start = name.substr(0, 3);
  for (const OptionInfo& info : known) {
    if (std::string_view(info.name).substr(0, 3) == start)
      return fmt::format(" (did you mean {}?)", dashed(info.name));
  }
  return "";
}

}  // namespace

bool Arguments::has(std::string_view name) const {
  return std::any_of(options.begin(), options.end(),
                     [&](const auto& option) { return option.first == name; });
}

Arguments split_arguments(std::span<const std::string> arguments,
                          const std::vector<OptionInfo>& known, std::string_view command) {
  Arguments split;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const bool is_option = argument.size() > 1 && argument[0] == '-';
    if (!is_option) {
      split.words.push_back(argument);
      continue;
    }
    const std::size_t dashes = argument.starts_with("--") ? 2 : 1;
    const std::size_t equals = argument.find('=');
    const std::string name =
        argument.substr(dashes, equals == std::string::npos ? equals : equals - dashes);
    const OptionInfo* info = find(known, name);
    if (!info || (name.size() == 1) != (dashes == 1)) {
      throw Error(fmt::format("fastkv {} has no option {}{}; see fastkv {} --help", command,
                              argument.substr(0, equals), suggestion(known, name), command));
    }
    std::string value;
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (info->kind != OptionInfo::Kind::flag) {
      if (i + 1 == arguments.size())
        throw Error(fmt::format("{} needs a value ({})", argument, info->value_name));
      value = arguments[++i];
    }
    if (value.empty() && info->kind != OptionInfo::Kind::flag) {
      throw Error(fmt::format("{} needs a value ({}), not an empty one; leave it out otherwise",
                              dashed(name), info->value_name));
    }
    const auto given = std::find_if(split.options.begin(), split.options.end(),
                                    [&](const auto& o) { return o.first == name; });
    if (given != split.options.end() && !info->repeatable) {
      throw Error(fmt::format("{} is given twice; give it once", dashed(name)));
    }
    split.options.emplace_back(name, value);
  }
  return split;
}

std::vector<OptionInfo> all_method_options() {
  std::vector<OptionInfo> all;
  for (MethodInfo& method : list_methods()) {
    for (OptionInfo& info : method.options) {
      if (!find(all, info.name)) all.push_back(std::move(info));
    }
  }
  return all;
}

void refuse_words(const Arguments& arguments, std::string_view command) {
  if (arguments.words.empty()) return;
  throw Error(fmt::format("fastkv {} takes options only, not '{}'; see fastkv {} --help", command,
                          arguments.words.front(), command));
}

std::string format_options(const std::vector<OptionInfo>& options) {
  std::string text;
  std::vector<std::string> seen;
  for (const OptionInfo& info : options) {
    if (std::find(seen.begin(), seen.end(), info.name) != seen.end()) continue;
    seen.push_back(info.name);
    const std::string left =
        dashed(info.name) + (info.value_name.empty() ? "" : " " + info.value_name);
    text += fmt::format("  {:<28} {}", left, info.help);
    if (!info.fallback.empty()) text += fmt::format(" [{}]", info.fallback);
    if (info.repeatable) text += " (may be repeated)";
    text += "\n";
  }
  return text;
}

std::string bundled_model() {
  // Where the sources are; FASTKV_MODEL serves an installed program.
  if (const char* named = std::getenv("FASTKV_MODEL"); named && *named) return named;
  const std::filesystem::path models = std::filesystem::path(FASTKV_SOURCE_DIR) / "models";
  const std::filesystem::path model = models / FASTKV_DEFAULT_MODEL;
  if (!std::filesystem::exists(model / "config.json")) return "";
  // From the project's folder "models/..." is all there is to say.
  const std::filesystem::path near = std::filesystem::proximate(model);
  return (near.string().starts_with("..") ? model : near).string();
}

void use_bundled_model(EngineOptions& options) {
  if (!options.model.empty() || !options.random_weights.empty()) return;
  options.model = bundled_model();
  if (options.model.empty()) {
    throw Error(
        "the bundled model is not where the sources were; name a checkpoint with --model DIR or "
        "FASTKV_MODEL");
  }
}

}  // namespace fastkv::cli
