#pragma once

#include <memory>
#include <optional>

#include "methods/method.h"

namespace fastkv {

/// What a method's answers for one layer come to.
struct Selection {
  std::int64_t kept_count = 0;  // entries a head keeps; n: everything
  std::int64_t kept_heads = 0;  // C
  Tensor kept;                  // (C, kept_count) int32 rows, ascending; empty: all n rows
  std::optional<GoOn> go_on;
  Tensor going_on;                        // (1, go_on->tokens) int32 rows, ascending
  std::shared_ptr<TimeStamp> begin, end;  // of scoring and choosing; empty: there was none
};

/// Asks `method` about a layer and carries its answers out. Shared by all methods and devices.
Selection select(const Method& method, const LayerView& layer);

}  // namespace fastkv
