#pragma once

#include <span>

#include "ops/attention_units.h"
#include "ops/scratch.h"

namespace fastkv {

/// Attention of many queries: keys are packed once and met by tiles of queries.
void attend_prompt(const AttentionArgs& args, std::span<const AttentionUnit> units, int threads,
                   Scratch& shared, std::span<Scratch> per_thread);

/// Attention of few queries a segment: keys are read once where they lie, and a long cache is
/// split between tasks.
void attend_decode(const AttentionArgs& args, std::span<const AttentionUnit> units, int threads,
                   Scratch& shared);
constexpr std::int64_t max_decode_rows = 4;

}  // namespace fastkv
