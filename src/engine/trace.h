#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cache/kv_cache.h"
#include "model/forward.h"

namespace fastkv {

/// Collects what a prefill selected, in the form of tests/fixtures/*/golden.json.
class Trace {
 public:
  Trace(const ModelConfig& config, std::string method, std::string options);
  void add(Device& device, const LayerReport& layer);
  /// After the prompt. `logits` (1, V)
  void finish(Device& device, const SequenceCache& cache, const View& logits,
              std::int64_t prompt_tokens);
  void add_greedy(std::int32_t token) { greedy_.push_back(token); }
  std::string json() const;

 private:
  using Positions = std::vector<std::int32_t>;
  const ModelConfig& config_;
  std::string method_;
  std::string options_;
  std::int64_t prompt_tokens_ = 0;
  bool restarted_ = false;
  std::vector<std::int64_t> layer_tokens_;  // by layer
  std::vector<std::optional<std::vector<Positions>>>
      kept_;                                      // by layer, then by head; none: everything
  std::map<std::int64_t, Positions> propagated_;  // by layer
  std::vector<std::int64_t> kv_len_, kv_heads_;   // by layer
  std::vector<float> logits_;
  std::vector<std::int32_t> greedy_;
};

}  // namespace fastkv
