#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "ops/device.h"

namespace fastkv::cuda {

/// Sequences in one launch.
inline constexpr int decode_group = 48;

/// Memory that stays between launches.
struct DecodeWorkspace {
  float* partials = nullptr;  // split results
  std::int64_t partial_count = 0;
  std::int32_t* tickets = nullptr;  // zero before and after each launch
  std::int64_t ticket_count = 0;
};

/// Attention of one new row for each of up to decode_group sequences over their caches and the row
/// itself; bfloat16, D 64 or 128, at most 16 query heads a cached head, all caches with the same
/// number of heads. The caches' lengths are read on the device: a recorded launch follows them.
/// With `append` the rows' keys and values are stored behind those cached, whose pages exist.
void attend_steps(const AttentionArgs& args, std::span<const AttentionSegment> segments,
                  bool append, const DecodeWorkspace& workspace, cudaStream_t stream);

}  // namespace fastkv::cuda
