#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fastkv/engine.h"
#include "fastkv/error.h"
#include "fastkv/options.h"

// Runs a benchmark's samples through a model under several methods, keeps every answer in a file,
// and makes tables and pictures of them. docs/evaluation.md says what is measured and how.

namespace fastkv {

struct EvalOptions {
  std::string method = "fastkv";
  std::string task;
  std::int64_t limit = 0;
  std::string shard;
  std::string out = "eval";
  std::string protocol = "query-aware";
  std::int64_t max_length = 0;
  std::vector<std::string> merge;

  void visit(OptionVisitor& v) {
    v.text("method", "LIST", method,
           "methods to compare, with commas between, or all; their options take lists too");
    v.text("task", "LIST", task, "tasks of the benchmark (default: all)");
    v.integer("limit", limit, {.low = 0}, "samples of each task and length, 0: all");
    v.text("shard", "I/N", shard, "run the I-th of N parts of the samples");
    v.text("out", "DIR", out, "where results are kept; a run goes on with what is there");
    v.choice("protocol", protocol, {"query-aware", "query-agnostic", "reference"},
             "whether the question is there when the context is compressed; reference: as the "
             "published numbers were made");
    v.integer("max-length", max_length, {.low = 0},
              "cut the middle out of longer prompts, 0: what the model takes");
    v.texts("merge", "DIR", merge, "run nothing: summarise the results of these directories");
  }
};

/// A row of the table of benchmarks.
struct EvalBenchmark {
  std::string name, summary;
  std::vector<OptionInfo> options;
};
std::vector<EvalBenchmark> list_eval_benchmarks();

struct EvalProgress {
  double share = 0.0;        // of the work of this call
  double left_seconds = -1;  // estimate; below 0: not known yet
  std::string what;          // the sample in work
};

/// Tables of results, and the files that were written of them.
struct EvalSummary {
  std::string markdown;
  std::vector<std::string> files;
  std::vector<std::string> notes;   // what a reader of the results should know
  std::vector<std::string> issues;  // rows of the data that could not be used, with file and line
};

/// One benchmark, some methods, one directory of results.
class Evaluation {
 public:
  /// Checks what can be checked before a model is loaded: names, values, data, the directory and
  /// the results in it. `methods` has lists of values, e.g. {"retain", "0.1,0.2"}.
  Evaluation(const std::string& benchmark, const EvalOptions& options, const EngineOptions& engine,
             const OptionValues& benchmark_options, const OptionValues& methods);
  ~Evaluation();
  Evaluation(Evaluation&&) noexcept;

  /// The setting, for people: model and its hash, code version, protocol, what is done already.
  std::string describe() const;
  /// Runs what is not done yet. Each result is in the file when the next sample begins.
  void run(Engine& engine, const std::function<void(const EvalProgress&)>& progress = {});
  /// Writes the tables and pictures of all results in the directory.
  EvalSummary summarise() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Merges result files of several directories (of shards, mostly) and writes their summary to
/// `out`. Throws Error where they do not belong together.
EvalSummary merge_results(const std::string& benchmark, const std::vector<std::string>& directories,
                          const std::string& out);

}  // namespace fastkv
