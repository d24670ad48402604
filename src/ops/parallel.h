#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace fastkv {

/// Runs body(task, thread) for every task in [0, tasks) on up to `threads` threads, in any order.
/// What a task computes must depend on its number only, never on `thread`, which only chooses
/// scratch memory: that is how results stay the same for any number of threads.
/// Where a body throws, the other tasks go on, and then one of the exceptions is thrown again.
template <class Body>
void parallel_for(int threads, std::int64_t tasks, const Body& body) {
  if (tasks <= 0) return;
  std::exception_ptr thrown;
  const int used = static_cast<int>(tasks < threads ? tasks : threads);
#pragma omp parallel num_threads(used)
  {
    // oneDNN calls made by a task must run on this thread alone. It sees an active region when
    // there are several threads; with one it would start its own.
    omp_set_num_threads(1);
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < tasks; ++task) {
      try {
        body(task, thread);
      } catch (...) {
#pragma omp critical(fastkv_thrown)
        thrown = std::current_exception();
      }
    }
  }
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace fastkv
