#pragma once

#include <functional>
#include <memory>

#include "tasks/benchmark.h"

// One function a benchmark, defined in the benchmark's own file; table.cc lists them.

namespace fastkv {

struct BenchmarkEntry {
  BenchmarkInfo info;
  std::function<std::unique_ptr<Benchmark>(const OptionValues&)> make;
};

BenchmarkEntry needle_benchmark();
BenchmarkEntry ruler_benchmark();
BenchmarkEntry longbench_benchmark();
BenchmarkEntry longbench_e_benchmark();
BenchmarkEntry infinitebench_benchmark();

/// An entry whose benchmark is a class `B` with options `O`.
template <class B, HasOptions O>
BenchmarkEntry benchmark_entry(BenchmarkInfo info, O defaults = {}) {
  info.options = list_options(defaults);
  return {info, [defaults, owner = "benchmark " + info.name](const OptionValues& values) {
            O options = defaults;
            apply_options(options, values, owner);
            return std::make_unique<B>(std::move(options));
          }};
}

}  // namespace fastkv
