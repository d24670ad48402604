#include "fastkv/eval.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

/// The command's own options; those of the benchmark and of the methods stand beside them.
struct EvalArguments {
  EvalOptions eval;
  EngineOptions engine;

  void visit(OptionVisitor& v) {
    eval.visit(v);
    engine.visit(v);
  }
};

bool has(const std::vector<OptionInfo>& options, const std::string& name) {
  return std::any_of(options.begin(), options.end(),
                     [&](const OptionInfo& o) { return o.name == name; });
}

EvalBenchmark find_benchmark(const std::string& name) {
  std::vector<std::string> names;
  for (EvalBenchmark& b : list_eval_benchmarks()) {
    if (b.name == name) return std::move(b);
    names.push_back(b.name);
  }
  throw Error(fmt::format("fastkv eval knows the benchmarks {}; '{}' is none of them",
                          fmt::join(names, ", "), name));
}

/// The benchmark is the first word, wherever it stands; without it options cannot be told apart.
std::string benchmark_name(std::span<const std::string> arguments) {
  if (arguments.empty() || arguments[0].starts_with('-')) return "";
  return arguments[0];
}

std::string duration(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

int print(const EvalSummary& summary) {
  fmt::print("{}\n", summary.markdown);
  for (const std::string& file : summary.files) fmt::print("wrote {}\n", file);
  std::fflush(stdout);
  for (const std::string& note : summary.notes) fmt::print(stderr, "{}\n", note);
  if (summary.issues.empty()) return 0;
  for (const std::string& issue : summary.issues) fmt::print(stderr, "{}\n", issue);
  throw Error(fmt::format("{} rows of the data could not be used and are in no number above",
                          summary.issues.size()));
}

int run(std::span<const std::string> arguments) {
  const std::string name = benchmark_name(arguments);
  const EvalBenchmark benchmark = find_benchmark(name);
  EvalArguments o;
  std::vector<OptionInfo> known = list_options(o);
  const std::vector<OptionInfo> own = known;
  const std::vector<OptionInfo> of_methods = all_method_options();
  for (const auto* more : {&benchmark.options, &of_methods})
    known.insert(known.end(), more->begin(), more->end());

  Arguments split = split_arguments(arguments.subspan(1), known, "eval");
  OptionValues benchmark_options, method_options;
  for (const auto& [option, value] : split.options) {
    // The seed is everybody's.
    if (has(own, option)) apply_options(o, {{option, value}}, "eval");
    if (has(benchmark.options, option)) benchmark_options[option] = value;
    if (has(of_methods, option)) method_options[option] = value;
  }
  if (!o.eval.merge.empty()) {
    for (const auto& [option, value] : split.options) {
      if (option == "merge" || option == "out") continue;
      throw Error(fmt::format(
          "--{} has no meaning with --merge, which puts together what is there; leave it out",
          option));
    }
    std::vector<std::string> directories = o.eval.merge;
    directories.insert(directories.end(), split.words.begin(), split.words.end());
    return print(merge_results(name, directories, o.eval.out));
  }
  refuse_words(split, "eval " + name);
  use_bundled_model(o.engine);

  Evaluation evaluation(name, o.eval, o.engine, benchmark_options, method_options);
  fmt::print("{}\n", evaluation.describe());
  std::fflush(stdout);
  Engine engine = [&] {
    ProgressBar bar("load");
    return Engine(o.engine, bar.callback());
  }();
  {
    ProgressBar bar(name);
    evaluation.run(engine, [&](const EvalProgress& p) {
      const std::string left =
          p.left_seconds < 0 ? "" : fmt::format(", {} left", duration(p.left_seconds));
      bar.set(p.share, p.what + left);
    });
  }
  return print(evaluation.summarise());
}

std::vector<OptionInfo> options_for_help() {
  std::vector<OptionInfo> all = list_options(EvalArguments{});
  for (const EvalBenchmark& b : list_eval_benchmarks()) {
    for (OptionInfo option : b.options) {
      option.help = b.name + ": " + option.help;
      if (!has(all, option.name)) all.push_back(std::move(option));
    }
  }
  return all;
}

}  // namespace

Command eval_command() {
  return {.name = "eval",
          .summary = "Runs a benchmark under several methods and makes tables and pictures of it.",
          .usage = "needle|ruler|longbench|longbench-e|infinitebench [options]",
          .details =
              "Every answer is kept in --out DIR; the same command goes on where it was stopped. "
              "Options of methods\n"
              "take lists, e.g. --method all --retain 0.1,0.2: each method is run with each value "
              "that it knows.\n"
              "--merge DIR [DIR...] puts the results of several directories into one summary. "
              "docs/evaluation.md says more.\n",
          .options = options_for_help,
          .method_options = true,
          .run = run};
}

}  // namespace fastkv::cli
