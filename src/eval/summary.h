#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/results.h"
#include "tasks/benchmark.h"

namespace fastkv {

/// A mean with how far it can be trusted.
struct Value {
  double value = 0.0;
  std::optional<double> error;  // standard error; none for fewer than two samples
  std::int64_t samples = 0;
};

/// Mean and its standard error.
Value mean_of(const std::vector<double>& values);

/// All results of one configuration at one context.
struct CellSummary {
  std::size_t configuration = 0;  // index
  std::int64_t context = 0;
  std::vector<std::pair<std::string, Value>> figures;  // tasks, parts of them, averages; 0 to 100
  // Means over all samples.
  double prompt_tokens = 0.0, truncated = 0.0;
  std::vector<double> kept, layer_bytes;  // entries of a head and bytes, by layer
  double kv_bytes = 0.0, kv_share = 0.0;  // share of a full cache, 0 to 1
  std::int64_t samples = 0;
  // These differ from run to run.
  double prefill_seconds = 0.0, selection_seconds = 0.0, first_token_seconds = 0.0;
  double decode_tokens_per_second = 0.0, seconds = 0.0;  // all of them together
  std::size_t peak_memory = 0;                           // the most
};

struct ConfigurationSummary {
  std::string label;  // the method, and what tells it from the others
  std::string method;
  std::string options;  // JSON
  Value all;            // over every sample there is, 0 to 100
};

struct FigureName {
  std::string name;
  bool average = false;  // over tasks: its Value::samples counts tasks
};

/// A function of the result lines alone, in whatever order they came.
struct Summary {
  RunSetting setting;
  std::vector<ConfigurationSummary> configurations;
  std::vector<std::int64_t> contexts;
  std::vector<FigureName> figures;    // in the benchmark's order
  std::vector<CellSummary> cells;     // by context, then configuration
  std::vector<SampleResult> results;  // in canonical order
  std::vector<std::string> issues;
  std::vector<std::string> notes;

  const CellSummary* find(std::size_t configuration, std::int64_t context) const;
};

/// Throws Error where files do not belong together.
Summary summarise(std::vector<ResultFile> files, const Benchmark& benchmark);

std::string to_markdown(const Summary& summary);
/// A row a figure.
std::string scores_csv(const Summary& summary);
/// A row a configuration and context: budget reached, time, memory.
std::string costs_csv(const Summary& summary);
std::string to_json(const Summary& summary);

}  // namespace fastkv
