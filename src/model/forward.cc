#include "model/forward.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <vector>

namespace fastkv {
namespace {

/// Rows of the MLP that are computed at a time: its inner activations are the widest of all.
constexpr std::int64_t mlp_chunk = 1024;

/// The tokens that are on their way through the layers. Shrinks where a method lets only some go
/// on; buffers are made for the first layer and reused.
struct Rows {
  std::int64_t count = 0;  // n
  View x;                  // (n, H) hidden states
  View positions;          // (n) int32
  std::vector<AttentionSegment> segments;

  Tensor ids;          // (n) int32
  Tensor x_memory[2];  // two, as a gather cannot be done in place
  Tensor position_memory[2];
  int current = 0;
};

/// Buffers of one layer, for the widest layer.
struct Scratch {
  Tensor normed;       // (n, H)
  Tensor qkv;          // (n, (Hq + 2 Hkv) D)
  Tensor attended;     // (n, Hq D)
  Tensor gate_up;      // (chunk, 2 I)
  Tensor activated;    // (chunk, I)
  Tensor log_sum_exp;  // (n, Hq)
};

Rows embed(const Model& model, Device& device, std::span<const Input> inputs) {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> positions;
  Rows rows;
  for (const Input& input : inputs) {
    rows.segments.push_back({.first_row = static_cast<std::int64_t>(ids.size()),
                             .rows = static_cast<std::int64_t>(input.ids.size()),
                             .cached = {}});
    ids.insert(ids.end(), input.ids.begin(), input.ids.end());
    const std::size_t before = positions.size();
    positions.resize(ids.size());
    std::iota(positions.begin() + static_cast<std::ptrdiff_t>(before), positions.end(),
              static_cast<std::int32_t>(input.cache.next_position));
  }
  const auto n = static_cast<std::int64_t>(ids.size());
  rows.count = n;
  rows.ids = device.empty(DType::i32, {n});
  device.upload(ids.data(), rows.ids);
  for (int i = 0; i < 2; ++i) {
    rows.x_memory[i] = device.empty(device.activation_type(), {n, model.config.hidden_size});
    rows.position_memory[i] = device.empty(DType::i32, {n});
  }
  rows.x = rows.x_memory[0];
  rows.positions = rows.position_memory[0];
  device.upload(positions.data(), rows.positions);
  device.embed(rows.ids, model.weights.embedding, rows.x);
  return rows;
}

Scratch make_scratch(const ModelConfig& c, Device& device, std::int64_t n, bool log_sum_exp) {
  const DType type = device.activation_type();
  const std::int64_t chunk = std::min(n, mlp_chunk);
  Scratch s;
  s.normed = device.empty(type, {n, c.hidden_size});
  s.qkv = device.empty(type, {n, c.qkv_rows()});
  s.attended = device.empty(type, {n, c.query_heads * c.head_dim});
  s.gate_up = device.empty(type, {chunk, 2 * c.intermediate_size});
  s.activated = device.empty(type, {chunk, c.intermediate_size});
  if (log_sum_exp) s.log_sum_exp = device.empty(DType::f32, {n, c.query_heads});
  return s;
}

/// Only the chosen rows stay, in order.
void keep_rows(Device& device, Rows& rows, const View& chosen) {
  const View from_x = rows.x;
  const View from_positions = rows.positions;
  const std::int64_t n = chosen.shape.count();
  const View flat(chosen.data, DType::i32, {n});
  rows.current = 1 - rows.current;
  rows.count = n;
  rows.x = rows.x_memory[rows.current].view().slice(0, n);
  rows.positions = rows.position_memory[rows.current].view().slice(0, n);
  device.gather_rows(from_x, flat, rows.x);
  device.gather_rows(from_positions, flat, rows.positions);
  rows.segments.front().rows = n;
}

/// The chosen tokens become a prompt of their own, with positions 0, 1, ...
void restart(const Model& model, Device& device, Rows& rows, const View& chosen) {
  const std::int64_t n = chosen.shape.count();
  const View flat(chosen.data, DType::i32, {n});
  Tensor ids = device.empty(DType::i32, {n});
  device.gather_rows(rows.ids, flat, ids);
  rows.ids = std::move(ids);
  rows.count = n;
  rows.x = rows.x_memory[rows.current].view().slice(0, n);
  rows.positions = rows.position_memory[rows.current].view().slice(0, n);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(n));
  std::iota(positions.begin(), positions.end(), 0);
  device.upload(positions.data(), rows.positions);
  device.embed(rows.ids, model.weights.embedding, rows.x);
  rows.segments.front().rows = n;
}

/// Each sequence's last hidden state through the final norm and the head: (sequences, V).
Tensor last_logits(const Model& model, Device& device, const Rows& rows) {
  std::vector<std::int32_t> last;
  for (const AttentionSegment& s : rows.segments)
    last.push_back(static_cast<std::int32_t>(s.first_row + s.rows - 1));
  const auto count = static_cast<std::int64_t>(last.size());
  Tensor index = device.empty(DType::i32, {count});
  device.upload(last.data(), index);
  Tensor x = device.empty(rows.x.type, {count, model.config.hidden_size});
  Tensor normed = device.empty(rows.x.type, {count, model.config.hidden_size});
  Tensor logits = device.empty(DType::f32, {count, model.config.vocab_size});
  device.gather_rows(rows.x, index, x);
  device.rms_norm(x, model.weights.final_norm, static_cast<float>(model.config.norm_epsilon),
                  normed);
  device.linear(normed, model.weights.head, logits, Device::Store::overwrite);
  return logits;
}

/// Entries that all heads of all layers keep of a prompt.
std::int64_t kept_entries(const ModelConfig& c, const Method& method, std::int64_t tokens) {
  LayerContext at{.tokens = tokens, .prompt_tokens = tokens};
  std::int64_t entries = 0;
  for (at.layer = 0; at.layer < c.layers; ++at.layer) {
    const Keep keep = method.keep(at);
    const std::int64_t kept = std::min(keep.budget, at.tokens);
    entries += kept * (keep.per_query_head && kept < at.tokens ? c.query_heads : c.kv_heads);
    const auto go_on = method.go_on(at);
    if (!go_on) continue;
    if (go_on->restart) {
      at = {.layer = -1,
            .tokens = go_on->tokens,
            .prompt_tokens = go_on->tokens,
            .pass = at.pass + 1};
      entries = 0;
    } else {
      at.tokens = go_on->tokens;
    }
  }
  return entries;
}

}  // namespace

std::size_t prefill_bytes(const ModelConfig& c, const Device& device, const PageLayout& layout,
                          const Method& method, std::int64_t tokens) {
  // As in embed() and make_scratch(): ids, two copies of hidden states and positions, one layer.
  const std::int64_t per_token =
      2 * c.hidden_size + c.hidden_size + c.qkv_rows() + c.query_heads * c.head_dim;
  const std::int64_t chunk = 3 * c.intermediate_size * std::min(tokens, mlp_chunk);
  const auto activations =
      static_cast<std::size_t>(tokens * per_token + chunk) * size_of(device.activation_type());
  const auto indices =
      static_cast<std::size_t>(tokens * (3 + c.query_heads)) * sizeof(std::int32_t);
  const auto entries = static_cast<std::size_t>(kept_entries(c, method, tokens));
  return activations + indices +
         entries * layout.bytes() / static_cast<std::size_t>(layout.page_tokens);
}

Tensor forward(const Model& model, Device& device, std::span<const Input> inputs,
               const PageLayout& layout, const Method* method, const ForwardHooks& hooks) {
  assert(!method || (inputs.size() == 1 && inputs.front().cache.empty()));
  const ModelConfig& c = model.config;
  const auto epsilon = static_cast<float>(c.norm_epsilon);
  Rows rows = embed(model, device, inputs);
  const Scratch scratch = make_scratch(c, device, rows.count, method != nullptr);
  LayerContext at{.prompt_tokens = rows.count};

  for (at.layer = 0; at.layer < c.layers; ++at.layer) {
    const LayerWeights& w = model.weights.layers[static_cast<std::size_t>(at.layer)];
    const std::int64_t n = at.tokens = rows.count;
    const std::int64_t sliding_window = c.sliding_window[static_cast<std::size_t>(at.layer)];

    // Queries, keys and values of the new tokens.
    const View normed = scratch.normed.view().slice(0, n);
    const View qkv = scratch.qkv.view().slice(0, n);
    device.rms_norm(rows.x, w.attention_norm, epsilon, normed);
    device.linear(normed, w.qkv, qkv, Device::Store::overwrite);
    if (w.qkv_bias) device.add_bias(qkv, w.qkv_bias);
    const View q = qkv.heads(0, c.query_heads, c.head_dim);
    const View k = qkv.heads(c.query_heads * c.head_dim, c.kv_heads, c.head_dim);
    const View v = qkv.heads((c.query_heads + c.kv_heads) * c.head_dim, c.kv_heads, c.head_dim);
    device.rope(q, rows.positions, model.weights.rope_frequencies);
    device.rope(k, rows.positions, model.weights.rope_frequencies);

    View log_sum_exp;
    if (method && method->needs_log_sum_exp(at))
      log_sum_exp = scratch.log_sum_exp.view().slice(0, n);
    const LayerView layer{device, at, q, k, rows.positions, log_sum_exp, sliding_window};
    Selection selection;
    const auto go_on = method ? method->go_on(at) : std::nullopt;
    if (go_on && go_on->restart) {
      selection = select(*method, layer);
      if (hooks.layer_done) hooks.layer_done({at, selection, rows.positions});
      restart(model, device, rows, selection.going_on);
      at = {.layer = -1, .prompt_tokens = rows.count, .pass = at.pass + 1};
      continue;
    }

    // Attention over what is cached and over the new tokens; its result joins the hidden states.
    const View attended = scratch.attended.view().slice(0, n);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      rows.segments[i].cached = inputs[i].cache.heads(at.layer);
    device.attention({.q = q,
                      .k = k,
                      .v = v,
                      .positions = rows.positions,
                      .segments = rows.segments,
                      .layout = layout,
                      .sliding_window = sliding_window,
                      .out = attended,
                      .log_sum_exp = log_sum_exp});
    device.linear(attended, w.output, rows.x, Device::Store::accumulate);

    // The cache keeps what the method chooses, or everything.
    if (method) {
      selection = select(*method, layer);
      inputs.front().cache.store(device, at.layer,
                                 {.k = k,
                                  .v = v,
                                  .positions = rows.positions,
                                  .chosen = selection.kept,
                                  .first = 0,
                                  .count = selection.kept_count,
                                  .heads = selection.kept_heads});
    } else {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const AttentionSegment& s = rows.segments[i];
        inputs[i].cache.store(device, at.layer,
                              {.k = k,
                               .v = v,
                               .positions = rows.positions,
                               .chosen = {},
                               .first = s.first_row,
                               .count = s.rows,
                               .heads = c.kv_heads});
      }
    }

    // MLP, a chunk of rows at a time.
    for (std::int64_t first = 0; first < n; first += mlp_chunk) {
      const std::int64_t count = std::min(mlp_chunk, n - first);
      const View x = rows.x.slice(first, count);
      const View h = normed.slice(first, count);
      const View gate_up = scratch.gate_up.view().slice(0, count);
      const View activated = scratch.activated.view().slice(0, count);
      device.rms_norm(x, w.mlp_norm, epsilon, h);
      device.linear(h, w.gate_up, gate_up, Device::Store::overwrite);
      device.swiglu(gate_up, activated);
      device.linear(activated, w.down, x, Device::Store::accumulate);
    }

    // The tokens that go on.
    if (method && hooks.layer_done) hooks.layer_done({at, selection, rows.positions});
    if (selection.go_on) keep_rows(device, rows, selection.going_on);
    if (hooks.progress)
      hooks.progress(static_cast<double>(at.layer + 1) / static_cast<double>(c.layers));
  }

  for (const Input& input : inputs) {
    input.cache.next_position +=
        at.pass == 0 ? static_cast<std::int64_t>(input.ids.size()) : at.prompt_tokens;
  }
  return last_logits(model, device, rows);
}

}  // namespace fastkv
