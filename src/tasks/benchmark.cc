#include "tasks/benchmark.h"

#include "core/error.h"
#include "metrics/python_text.h"
#include "tasks/table.h"

namespace fastkv {
namespace {

const std::vector<BenchmarkEntry>& benchmark_table() {
  static const std::vector<BenchmarkEntry> table = {
      needle_benchmark(),      ruler_benchmark(),         longbench_benchmark(),
      longbench_e_benchmark(), infinitebench_benchmark(),
  };
  return table;
}

}  // namespace

std::vector<Figure> Benchmark::task_figures(std::span<const Scored> scored) const {
  if (scored.empty()) return {};
  std::vector<double> scores;
  for (const Scored& sample : scored) scores.push_back(sample.score);
  return {{"score", mean(scores), static_cast<std::int64_t>(scores.size())}};
}

double Benchmark::mean(std::span<const double> scores) const {
  double sum = 0.0;
  for (const double score : scores) sum += score;
  return python_round(100.0 * sum / static_cast<double>(scores.size()), 2);
}

std::vector<Figure> Benchmark::averages(const std::map<std::string, double>&) const { return {}; }

TaskInfo find_task(const Benchmark& benchmark, const std::string& name) {
  std::string known;
  for (const TaskInfo& task : benchmark.tasks()) {
    if (task.name == name) return task;
    known += (known.empty() ? "" : ", ") + task.name;
  }
  fail("{} has no task '{}'; its tasks are {}.", benchmark.name(), name, known);
}

std::vector<BenchmarkInfo> list_benchmarks() {
  std::vector<BenchmarkInfo> infos;
  for (const BenchmarkEntry& entry : benchmark_table()) infos.push_back(entry.info);
  return infos;
}

std::unique_ptr<Benchmark> make_benchmark(const std::string& name, const OptionValues& options) {
  std::string known;
  for (const BenchmarkEntry& entry : benchmark_table()) {
    if (entry.info.name == name) return entry.make(options);
    known += (known.empty() ? "" : ", ") + entry.info.name;
  }
  fail("there is no benchmark '{}'; the benchmarks are {}.", name, known);
}

}  // namespace fastkv
