#pragma once

#include <string>

#include "methods/method.h"

namespace fastkv {

/// Whether the query heads of a group choose together (one selection a KV head) or each for itself.
struct Granularity {
  std::string granularity = "kv-head";

  void visit(OptionVisitor& v) {
    v.choice("granularity", granularity, {"kv-head", "query-head"},
             "one selection a KV head, or one a query head at g times the memory");
  }
  bool per_query_head() const { return granularity == "query-head"; }
  /// Consecutive query heads whose scores are summed.
  std::int64_t group(const ModelShape& shape) const {
    return per_query_head() ? 1 : shape.query_heads / shape.kv_heads;
  }
};

}  // namespace fastkv
