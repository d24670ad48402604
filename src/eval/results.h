#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/json.h"

// Result files: JSON Lines. The first line is the setting that all others have in common, each
// further one is an answer to one sample under one configuration.

namespace fastkv {

/// What decides which results may stand in one table.
struct RunSetting {
  std::string benchmark;
  std::map<std::string, std::string> benchmark_options;
  std::string model;  // its name: shown, not compared
  std::string model_hash, code_version, protocol, dtype;
  std::string device_kind;  // cpu or cuda, whose results differ in the last bits
  std::int64_t max_length = 0;
  std::int64_t max_positions = 0;
  bool no_sliding_window = false;
  bool chat_template = true;

  std::string json() const;
};

/// A sentence on the first difference that forbids one table; empty where there is none.
std::string difference(const RunSetting& a, const RunSetting& b);

/// What a sample is known by, under all configurations.
std::string key_of_sample(const std::string& task, std::int64_t context, const std::string& id);
/// What a result is known by: all files together have one for each.
std::string key_of_result(const std::string& method, const std::string& options,
                          const std::string& sample_key);

struct SampleResult {
  std::string method;
  std::string options;  // every option of the method, as a JSON object with sorted keys
  std::string task;
  std::int64_t context = 0;  // asked for; 0: as long as the data is
  std::string id;
  std::string sample;  // sample_hash(); empty in files of before it was written
  std::string prediction;
  double score = 0.0;
  std::int64_t length = 0;  // as the benchmark counts
  std::map<std::string, double> attributes;
  bool truncated = false;
  std::int64_t prompt_tokens = 0;   // compressed
  std::int64_t later_tokens = 0;    // the question, where it came later
  std::vector<std::int64_t> kept;   // entries of each cached head, by layer
  std::vector<std::int64_t> heads;  // cached, by layer
  std::size_t kv_bytes = 0, kv_bytes_full = 0;
  std::size_t entry_bytes = 0;  // a key and a value of one head
  std::string finish;
  std::int64_t generated_tokens = 0;
  std::string device;  // that it ran on
  // These differ from run to run.
  double prefill_seconds = 0.0, selection_seconds = 0.0, first_token_seconds = 0.0;
  double decode_seconds = 0.0, seconds = 0.0;
  std::size_t peak_memory = 0;

  /// key_of_sample() and key_of_result() of its own.
  std::string sample_key() const;
  std::string key() const;
  std::string json() const;
};

struct ResultFile {
  RunSetting setting;
  std::vector<SampleResult> results;
  std::vector<std::string> issues;  // rows of the data that could not be used
  std::vector<std::string> notes;
  std::uintmax_t whole_bytes = 0;  // up to the end of the last whole line
  std::map<std::string, std::string> task_of_issue = {};
};
/// Throws Error for a line that is not as it should be, with file and line. A last line without an
/// end is left out, with a note: the program was killed while it wrote.
ResultFile read_results(const std::filesystem::path& path);

/// OUT/BENCHMARK.jsonl and OUT/BENCHMARK.I-of-N.jsonl, in the order of their names.
std::vector<std::filesystem::path> find_result_files(const std::filesystem::path& directory,
                                                     const std::string& benchmark);

/// A result file that is written to. One process at a time has it.
class ResultWriter {
 public:
  /// Begins the file with `setting`, or goes on with one of the same setting; `found` is what it
  /// has. Throws Error where it has another setting, is in use, or cannot be written.
  ResultWriter(const std::filesystem::path& path, const RunSetting& setting, ResultFile& found);
  ~ResultWriter();
  ResultWriter(const ResultWriter&) = delete;
  ResultWriter& operator=(const ResultWriter&) = delete;

  /// The whole line at once, so that a killed program leaves whole lines.
  void add(const SampleResult& result);
  void add_issue(const std::string& task, const std::string& issue);
  /// The row was mended since.
  void clear_issue(const std::string& issue);

 private:
  void append(const std::string& line);
  std::string path_;
  int file_ = -1;
};

}  // namespace fastkv
