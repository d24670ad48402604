#include <nlohmann/json.hpp>

#include "fastkv/engine.h"

namespace fastkv {

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::end_token:
      return "end_token";
    case FinishReason::stop_text:
      return "stop_text";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "?";
}

double Report::prefill_tokens_per_second() const {
  return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
}

double Report::decode_tokens_per_second() const {
  return decode_seconds > 0 && generated_tokens > 1
             ? static_cast<double>(generated_tokens - 1) / decode_seconds
             : 0.0;
}

std::string Report::json() const {
  nlohmann::ordered_json json;
  json["method"] = method;
  json["options"] = nlohmann::ordered_json::parse(options);
  json["prompt_tokens"] = prompt_tokens;
  json["layer_tokens"] = layer_tokens;
  json["kept_tokens"] = kept_tokens;
  json["cached_heads"] = cached_heads;
  json["kv_bytes_full"] = kv_bytes_full;
  json["kv_bytes"] = kv_bytes;
  json["kv_bytes_read"] = kv_bytes_read;
  json["linear_flops"] = linear_flops;
  json["attention_flops"] = attention_flops;
  json["prefill_seconds"] = prefill_seconds;
  json["prefill_tokens_per_second"] = prefill_tokens_per_second();
  json["selection_seconds"] = selection_seconds;
  json["first_token_seconds"] = first_token_seconds;
  json["generated_tokens"] = generated_tokens;
  json["decode_seconds"] = decode_seconds;
  json["decode_tokens_per_second"] = decode_tokens_per_second();
  json["planned_memory"] = planned_memory;
  json["peak_memory"] = peak_memory;
  return json.dump();
}

}  // namespace fastkv
