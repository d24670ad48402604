#include "ops/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace fastkv {
namespace {

TEST(ParallelFor, ThrowsAgainWhatATaskThrew) {
  for (int threads : {1, 4}) {
    std::atomic<int> done = 0;
    const auto work = [&](std::int64_t task, int) {
      if (task == 3) throw std::runtime_error("task 3");
      ++done;
    };
    EXPECT_THROW(parallel_for(threads, 10, work), std::runtime_error);
    EXPECT_EQ(done, 9);
    parallel_for(threads, 3, work);  // works as before
    EXPECT_EQ(done, 12);
  }
}

}  // namespace
}  // namespace fastkv
