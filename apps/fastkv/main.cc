#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

constexpr int user_error = 2;

void print_overview() {
  fmt::print(
      "fastkv {}: long prompts through LLaMA and Mistral models, fast and in little memory\n\n",
      FASTKV_VERSION);
  fmt::print("usage: fastkv COMMAND [options]\n\n");
  for (const Command& c : command_table()) fmt::print("  {:<10} {}\n", c.name, c.summary);
  fmt::print("\nfastkv COMMAND --help shows a command's options.\n");
}

void print_help(const Command& command) {
  fmt::print("{}\n\nusage: fastkv {} {}\n", command.summary, command.name, command.usage);
  if (!command.details.empty()) fmt::print("\n{}", command.details);
  fmt::print("\noptions:\n{}", format_options(command.options()));
  if (command.method_options) {
    fmt::print(
        "\noptions of the methods (fastkv methods says which has which, and the defaults):\n{}",
        format_options(without_defaults(all_method_options())));
  }
}

int dispatch(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" ||
      arguments[0] == "help") {
    print_overview();
    return arguments.empty() ? user_error : 0;
  }
  if (arguments[0] == "--version") {
    fmt::print("fastkv {}\n", FASTKV_VERSION);
    return 0;
  }
  for (const Command& command : command_table()) {
    if (command.name != arguments[0]) continue;
    for (const std::string& a : arguments) {
      if (a == "--help" || a == "-h") {
        print_help(command);
        return 0;
      }
    }
    return command.run(std::span(arguments).subspan(1));
  }
  throw Error(
      fmt::format("there is no command '{}'; fastkv --help lists the commands", arguments[0]));
}

/// Threads that wait should spin for microseconds, not for the milliseconds that are GNU OpenMP's
/// default: beside other programs a thread that is waited for gets no core while the others spin,
/// and decoding becomes a hundred times slower. The library reads its environment as it is loaded,
/// so the program starts itself anew with it; who sets one of the variables knows better.
void spin_briefly(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/1);
  execv("/proc/self/exe", argv);  // returns where that is impossible, and all is as it was
}

/// Output that could not be written must not look like success.
void check_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error("standard output cannot be written; check that the disk has room");
  }
}

}  // namespace

std::span<const Command> command_table() {
  static const std::array table = {
      run_command(),      demo_command(),  bench_command(), methods_command(), info_command(),
      tokenize_command(), score_command(), eval_command(),  inspect_command(), calibrate_command()};
  return table;
}

}  // namespace fastkv::cli

int main(int argc, char** argv) {
  fastkv::cli::spin_briefly(argv);
  try {
    const int code = fastkv::cli::dispatch({argv + 1, argv + argc});
    fastkv::cli::check_output();
    return code;
  } catch (const fastkv::Error& error) {
    fmt::print(stderr, "fastkv: {}\n", error.what());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "fastkv: there is not enough memory; try a shorter prompt or a smaller model\n");
  } catch (const std::filesystem::filesystem_error& error) {  // a name that is too long, say
    std::string path = error.path1().string();
    if (path.size() > 300) path = path.substr(0, 300) + "...";
    fmt::print(stderr, "fastkv: {}: {}\n", path, error.code().message());
  } catch (const std::exception& error) {
    fmt::print(stderr, "fastkv: {}\n", error.what());
  }
  return fastkv::cli::user_error;
}
