#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fastkv/engine.h"
#include "fastkv/options.h"

namespace fastkv::cli {

/// A subcommand of the program.
struct Command {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view usage;    // what stands behind the name, e.g. "[options]"
  std::string_view details;  // a few lines for --help, may be empty
  std::vector<OptionInfo> (*options)();
  /// Whether options of the methods may be given, too.
  bool method_options;
  int (*run)(std::span<const std::string> arguments);
};

/// All subcommands, in the order in which help lists them.
std::span<const Command> command_table();

Command run_command();
Command bench_command();
Command methods_command();
Command info_command();
Command tokenize_command();
Command score_command();
Command eval_command();
Command inspect_command();
Command calibrate_command();
Command demo_command();

/// Arguments as given: options in order, and what is not an option.
struct Arguments {
  std::vector<std::pair<std::string, std::string>> options;  // name without dashes, value
  std::vector<std::string> words;

  bool has(std::string_view name) const;
};

/// Splits arguments by the options that a command knows. Throws Error for an unknown option, a
/// missing value, or an option given twice that is not repeatable.
Arguments split_arguments(std::span<const std::string> arguments,
                          const std::vector<OptionInfo>& known, std::string_view command);

/// Every option that some method has, once.
std::vector<OptionInfo> all_method_options();

/// Reads a command's options into `options` and, where `method` is given, the methods' into it.
/// Returns the arguments as given.
template <HasOptions T>
Arguments read_arguments(std::span<const std::string> arguments, T& options,
                         std::string_view command, OptionValues* method = nullptr) {
  const std::vector<OptionInfo> own = list_options(options);
  std::vector<OptionInfo> known = own;
  if (method) {
    for (OptionInfo& info : all_method_options()) known.push_back(std::move(info));
  }
  Arguments split = split_arguments(arguments, known, command);
  for (const auto& [name, value] : split.options) {
    bool is_own = false;
    for (const OptionInfo& info : own) is_own |= info.name == name;
    if (is_own) {
      apply_options(options, {{name, value}}, command);
    } else if (method) {
      (*method)[name] = value;
    }
  }
  return split;
}

/// Throws Error unless there are options only.
void refuse_words(const Arguments& arguments, std::string_view command);

/// Options as help shows them, one a line, aligned.
std::string format_options(const std::vector<OptionInfo>& options);

/// The directory of the model that comes with the program; empty where there is none.
std::string bundled_model();
/// Sets the bundled model where neither a model nor random weights are named.
void use_bundled_model(EngineOptions& options);

}  // namespace fastkv::cli
