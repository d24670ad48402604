#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fastkv/engine.h"

namespace fastkv {

/// What the hardware gives at best, measured now, with the engine's device and threads.
struct Ceilings {
  double gemm_flops = 0.0;       // FLOP/s of one large matrix product through the library in use
  double attention_flops = 0.0;  // FLOP/s of causal attention over a long prompt
  double memory_bytes = 0.0;     // bytes/s of memory far larger than the caches: reading on a
                                 // processor, copying (read and written) on other devices
};
Ceilings measure_ceilings(const Engine& engine);

/// Time that one kind of operation took, and what it had to do.
struct OperationTime {
  std::string name;  // of a matrix product with its weight's rows and columns
  std::int64_t calls = 0;
  double seconds = 0.0;
  double flops = 0.0;  // of matrix products and attention; 0 for the rest
  double bytes = 0.0;  // inputs read and results written once
};
/// Runs `work`, which uses the engine, and says where its time went, longest first.
std::vector<OperationTime> profile(Engine& engine, const std::function<void()>& work);

}  // namespace fastkv
