#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/options.h"
#include "tasks/sample.h"

// A benchmark says where its samples come from and how answers are scored; it runs nothing. A run
// walks tasks() x contexts(), feeds what samples() hands out to a model, and asks score(),
// task_figures() and averages() what it was worth.

namespace fastkv {

/// A task of a benchmark.
struct TaskInfo {
  std::string name;
  std::string metric;
  std::int64_t max_new_tokens = 0;
};

/// Which samples to make.
struct SampleRequest {
  std::string task;
  std::int64_t context = 0;                      // one of Benchmark::contexts()
  std::int64_t limit = 0;                        // at most this many, skipped ones included; 0: all
  std::function<bool(const std::string&)> skip;  // ids that are not needed again; may be empty
};

/// A sample that was answered.
struct Scored {
  double score = 0.0;  // 0 to 1
  std::int64_t length = 0;
};

/// A number with its name, 0 to 100, rounded to two decimals.
struct Figure {
  std::string label;
  double value = 0.0;
  std::int64_t count = 0;  // samples, or tasks, that it is the mean of
};

class Benchmark {
 public:
  virtual ~Benchmark() = default;

  virtual std::string name() const = 0;
  /// In the order in which they are reported.
  virtual std::vector<TaskInfo> tasks() const = 0;
  /// Prompt lengths in tokens that are run and reported one by one; {0}: as long as the data is.
  virtual std::vector<std::int64_t> contexts() const { return {0}; }

  /// Called with each sample; false ends it.
  using Take = std::function<bool(Sample)>;
  /// Makes a task's samples one at a time, since a data set may be larger than memory. Rows that
  /// cannot be used are added to `issues`. Throws Error for an unknown task or missing files.
  virtual void samples(const SampleRequest& request, const Codec& codec, const Take& take,
                       std::vector<Issue>& issues) const = 0;

  /// 0 to 1, how right the model's answer is.
  virtual double score(const Sample& sample, const std::string& prediction) const = 0;

  /// The task's score, and parts of it where the benchmark reports some (LongBench-E by length).
  virtual std::vector<Figure> task_figures(std::span<const Scored> scored) const;
  /// Means over tasks by their scores (0 to 100), each named by what it is the mean of; one over a
  /// part of its tasks says so.
  virtual std::vector<Figure> averages(const std::map<std::string, double>& task_scores) const;

 protected:
  /// The mean of scores (0 to 1), 0 to 100 and rounded as the benchmark's own program does it.
  virtual double mean(std::span<const double> scores) const;
};

/// The task of that name; throws Error that lists the known ones.
TaskInfo find_task(const Benchmark& benchmark, const std::string& name);

/// A row of the table of benchmarks.
struct BenchmarkInfo {
  std::string name, summary, source;
  std::vector<OptionInfo> options;
};
std::vector<BenchmarkInfo> list_benchmarks();
/// Throws Error that lists the known benchmarks, or names the bad option.
std::unique_ptr<Benchmark> make_benchmark(const std::string& name, const OptionValues& options);

}  // namespace fastkv
