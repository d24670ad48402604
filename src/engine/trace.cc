#include "engine/trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fastkv {
namespace {

std::vector<std::int32_t> download_ids(Device& device, const View& view) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(view.shape.count()));
  device.download(view, ids.data());
  return ids;
}

}  // namespace

Trace::Trace(const ModelConfig& config, std::string method, std::string options)
    : config_(config), method_(std::move(method)), options_(std::move(options)) {}

void Trace::add(Device& device, const LayerReport& layer) {
  const Selection& s = layer.selection;
  const Positions positions = download_ids(device, layer.positions);
  const auto position_of = [&](std::int32_t row) {
    return positions[static_cast<std::size_t>(row)];
  };
  if (s.going_on && layer.at.pass == 0) {
    Positions going_on = download_ids(device, s.going_on);
    std::transform(going_on.begin(), going_on.end(), going_on.begin(), position_of);
    propagated_[layer.at.layer] = std::move(going_on);
  }
  // After a restart positions are those of another, shorter prompt: lists by layer end there.
  restarted_ = restarted_ || layer.at.pass > 0 || (s.go_on && s.go_on->restart);
  if (restarted_) return;

  layer_tokens_.push_back(layer.at.tokens);
  std::optional<std::vector<Positions>> heads;
  if (s.kept) {
    const Positions rows = download_ids(device, s.kept);
    heads.emplace();
    for (std::int64_t h = 0; h < s.kept_heads; ++h) {
      Positions& head = heads->emplace_back();
      for (std::int64_t i = 0; i < s.kept_count; ++i) {
        head.push_back(position_of(rows[static_cast<std::size_t>(h * s.kept_count + i)]));
      }
    }
  }
  kept_.push_back(std::move(heads));
}

void Trace::finish(Device& device, const SequenceCache& cache, const View& logits,
                   std::int64_t prompt_tokens) {
  prompt_tokens_ = prompt_tokens;
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    kv_len_.push_back(cache.length(layer));
    kv_heads_.push_back(cache.head_count(layer));
  }
  logits_.resize(static_cast<std::size_t>(config_.vocab_size));
  device.download(logits, logits_.data());
}

std::string Trace::json() const {
  nlohmann::ordered_json json;
  json["method"] = method_;
  json["prompt_len"] = prompt_tokens_;
  json["options"] = nlohmann::ordered_json::parse(options_);
  json["layer_tokens"] = restarted_ ? std::vector<std::int64_t>{} : layer_tokens_;
  json["kv_len"] = kv_len_;
  json["kv_heads"] = kv_heads_;
  json["kept"] = nlohmann::ordered_json::array();
  if (!restarted_) {
    for (const auto& heads : kept_) {
      if (heads) {
        json["kept"].push_back(*heads);
      } else {
        json["kept"].push_back(nullptr);
      }
    }
  }
  json["propagated"] = nlohmann::ordered_json::object();
  for (const auto& [layer, positions] : propagated_)
    json["propagated"][std::to_string(layer)] = positions;
  json["logits"] = logits_;
  json["greedy"] = greedy_;
  return json.dump();
}

}  // namespace fastkv
