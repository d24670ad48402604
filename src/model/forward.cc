#include "model/forward.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>
#include <vector>

namespace fastkv {
namespace {

constexpr DType hidden_type = DType::f32;

/// The tokens that are on their way through the layers. Shrinks where a method lets only some go
/// on.
struct Rows {
  Tensor ids;        // (n) int32
  Tensor x;          // (n, H) hidden states
  Tensor positions;  // (n) int32
  std::vector<AttentionSegment> segments;

  std::int64_t count() const { return x.shape()[0]; }
};

/// Buffers of one layer, for the widest layer. Linear layers run over chunks of rows, so that only
/// what attention needs at once is as long as the prompt.
struct Scratch {
  std::int64_t chunk = 0;
  Tensor normed;       // (chunk, H)
  Tensor qkv;          // (n, (Hq + 2 Hkv) D)
  Tensor attended;     // (n, Hq D)
  Tensor wide;         // (chunk, 2 I) or (chunk, (Hq + 2 Hkv) D) float32: never both at once
  Tensor activated;    // (chunk, I)
  Tensor log_sum_exp;  // (n, Hq)
};

/// Of activations, that hold either content of Scratch::wide.
std::int64_t wide_columns(const ModelConfig& c, DType type) {
  const auto floats = static_cast<std::int64_t>(sizeof(float) / size_of(type));
  return std::max(2 * c.intermediate_size, floats * c.qkv_rows());
}

Scratch make_scratch(const ModelConfig& c, Device& device, std::int64_t n, bool log_sum_exp) {
  const DType type = device.activation_type();
  Scratch s;
  s.chunk = std::min(n, device.row_chunk());
  s.normed = device.empty(type, {s.chunk, c.hidden_size});
  s.qkv = device.empty(type, {n, c.qkv_rows()});
  s.attended = device.empty(type, {n, c.query_heads * c.head_dim});
  s.wide = device.empty(type, {s.chunk, wide_columns(c, type)});
  s.activated = device.empty(type, {s.chunk, c.intermediate_size});
  if (log_sum_exp) s.log_sum_exp = device.empty(DType::f32, {n, c.query_heads});
  return s;
}

std::vector<std::int32_t> counted_from(std::int64_t first, std::int64_t n) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), static_cast<std::int32_t>(first));
  return numbers;
}

Rows start_rows(const Model& model, Device& device, const Input& input) {
  const auto n = static_cast<std::int64_t>(input.ids.size());
  Rows rows;
  rows.segments.push_back({.first_row = 0, .rows = n, .cached = {}});
  rows.ids = device.empty(DType::i32, {n});
  rows.x = device.empty(hidden_type, {n, model.config.hidden_size});
  rows.positions = device.empty(DType::i32, {n});
  device.upload(input.ids.data(), rows.ids);
  device.upload(counted_from(input.cache.next_position, n).data(), rows.positions);
  device.embed(rows.ids, model.weights.embedding, rows.x);
  return rows;
}

/// Only the chosen rows stay, in order.
void keep_rows(Device& device, Rows& rows, const View& chosen) {
  const std::int64_t n = chosen.shape.count();
  const View flat(chosen.data, DType::i32, {n});
  Tensor x = device.empty(rows.x.type(), {n, rows.x.shape()[1]});
  Tensor positions = device.empty(DType::i32, {n});
  device.gather_rows(rows.x, flat, x);
  device.gather_rows(rows.positions, flat, positions);
  rows.x = std::move(x);
  rows.positions = std::move(positions);
  rows.segments.front().rows = n;
}

/// The chosen tokens become a prompt of their own, with positions 0, 1, ...
void restart(const Model& model, Device& device, Rows& rows, const View& chosen) {
  const std::int64_t n = chosen.shape.count();
  const View flat(chosen.data, DType::i32, {n});
  Tensor ids = device.empty(DType::i32, {n});
  device.gather_rows(rows.ids, flat, ids);
  rows.ids = std::move(ids);
  rows.x = device.empty(hidden_type, {n, model.config.hidden_size});
  rows.positions = device.empty(DType::i32, {n});
  device.upload(counted_from(0, n).data(), rows.positions);
  device.embed(rows.ids, model.weights.embedding, rows.x);
  rows.segments.front().rows = n;
}

/// Calls work(first, count) for one chunk of rows after the other.
template <class Work>
void in_chunks(std::int64_t rows, std::int64_t chunk, const Work& work) {
  for (std::int64_t first = 0; first < rows; first += chunk)
    work(first, std::min(chunk, rows - first));
}

/// The queries, keys and values of a layer.
struct Projected {
  View q;  // (n, Hq, D)
  View k;  // (n, Hkv, D)
  View v;  // (n, Hkv, D)
};

/// With `rotate`, queries and keys get their rotary embedding.
Projected project(const Model& model, Device& device, std::int64_t layer, const Rows& rows,
                  const Scratch& scratch, bool rotate) {
  const ModelConfig& c = model.config;
  const LayerWeights& w = model.weights.layers[static_cast<std::size_t>(layer)];
  const View qkv = scratch.qkv.view().slice(0, rows.count());
  const std::int64_t turning = c.query_heads + c.kv_heads;  // keys lie behind queries
  const auto heads = [&](const View& x) { return x.heads(0, turning + c.kv_heads, c.head_dim); };
  // Rounded before and after it turns, a key may fall behind another one.
  const bool round_once = rotate && device.activation_type() != DType::f32;
  in_chunks(rows.count(), scratch.chunk, [&](std::int64_t first, std::int64_t count) {
    const View out = qkv.slice(first, count);
    const View x =
        round_once ? View(scratch.wide.view().data, DType::f32, {count, c.qkv_rows()}) : out;
    device.norm_linear(rows.x.view().slice(first, count), w.attention_norm,
                       static_cast<float>(c.norm_epsilon), w.qkv, x,
                       scratch.normed.view().slice(0, count));
    if (w.qkv_bias) device.add_bias(x, w.qkv_bias);
    if (rotate) {
      device.rope(heads(x), turning, rows.positions.view().slice(first, count),
                  model.weights.rope_frequencies, heads(out));
    }
  });
  return {.q = qkv.heads(0, c.query_heads, c.head_dim),
          .k = qkv.heads(c.query_heads * c.head_dim, c.kv_heads, c.head_dim),
          .v = qkv.heads(turning * c.head_dim, c.kv_heads, c.head_dim)};
}

AttentionArgs attention_args(const Model& model, std::int64_t layer, const Rows& rows,
                             const Projected& p, const Scratch& scratch, const PageLayout& layout) {
  return {.q = p.q,
          .k = p.k,
          .v = p.v,
          .positions = rows.positions,
          .segments = rows.segments,
          .layout = layout,
          .sliding_window = model.config.sliding_window[static_cast<std::size_t>(layer)],
          .out = scratch.attended.view().slice(0, rows.count()),
          .log_sum_exp = {},
          .rope_frequencies = {}};
}

/// What attention gave joins the hidden states.
void project_out(const Model& model, Device& device, std::int64_t layer, const Rows& rows,
                 const Scratch& scratch) {
  const Matrix& output = model.weights.layers[static_cast<std::size_t>(layer)].output;
  in_chunks(rows.count(), scratch.chunk, [&](std::int64_t first, std::int64_t count) {
    device.linear(scratch.attended.view().slice(first, count), output,
                  rows.x.view().slice(first, count), Device::Store::accumulate);
  });
}

void mlp(const Model& model, Device& device, std::int64_t layer, const Rows& rows,
         const Scratch& scratch) {
  const ModelConfig& c = model.config;
  const LayerWeights& w = model.weights.layers[static_cast<std::size_t>(layer)];
  in_chunks(rows.count(), scratch.chunk, [&](std::int64_t first, std::int64_t count) {
    const View x = rows.x.view().slice(first, count);
    const View activated = scratch.activated.view().slice(0, count);
    const View gate_up(scratch.wide.view().data, activated.type, {count, 2 * c.intermediate_size});
    device.norm_gated_linear(x, w.mlp_norm, static_cast<float>(c.norm_epsilon), w.gate_up,
                             activated, scratch.normed.view().slice(0, count), gate_up);
    device.linear(activated, w.down, x, Device::Store::accumulate);
  });
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

/// The logits (n, V) of hidden states x (n, H).
void head(const Model& model, Device& device, const View& x, const View& logits,
          const View& scratch) {
  device.norm_linear(x, model.weights.final_norm, static_cast<float>(model.config.norm_epsilon),
                     model.weights.head, logits, scratch);
}

}  // namespace

PrefillBytes prefill_bytes(const ModelConfig& c, const Device& device, const PageLayout& layout,
                           const Method& method, std::int64_t tokens) {
  // As in start_rows() and make_scratch(). Where tokens stay behind there is room by then.
  const std::int64_t chunk = std::min(tokens, device.row_chunk());
  const auto activation = static_cast<std::int64_t>(size_of(device.activation_type()));
  const auto hidden = static_cast<std::int64_t>(size_of(hidden_type));
  const std::int64_t per_token =
      c.hidden_size * hidden + (c.qkv_rows() + c.query_heads * c.head_dim) * activation;
  const auto activations = static_cast<std::size_t>(
      tokens * per_token +
      chunk * (c.hidden_size + c.intermediate_size + wide_columns(c, device.activation_type())) *
          activation);
  const auto indices =
      static_cast<std::size_t>(tokens * (3 + 3 * c.query_heads)) * sizeof(std::int32_t);
  const auto entries = static_cast<std::size_t>(kept_entries(c, method, tokens));
  return {.work = activations + indices,
          .kept = entries * layout.bytes() / static_cast<std::size_t>(layout.page_tokens)};
}

PromptEnd forward(const Model& model, Device& device, const Input& input, const PageLayout& layout,
                  const Method* method, const ForwardHooks& hooks) {
  assert(!method || input.cache.empty());
  const ModelConfig& c = model.config;
  SequenceCache& cache = input.cache;
  Rows rows = start_rows(model, device, input);
  Scratch scratch = make_scratch(c, device, rows.count(), method != nullptr);
  // Where many tokens stay behind, the buffers for all of them are given back first: this is when
  // two copies of hidden states exist.
  const auto shrink = [&](std::int64_t tokens, const auto& move_rows) {
    const bool much = 4 * tokens <= 3 * scratch.qkv.shape()[0];
    if (much) scratch = {};
    move_rows();
    if (much) scratch = make_scratch(c, device, tokens, true);
  };
  LayerContext at{.prompt_tokens = rows.count()};

  for (at.layer = 0; at.layer < c.layers; ++at.layer) {
    at.tokens = rows.count();
    const Projected p = project(model, device, at.layer, rows, scratch, true);

    View log_sum_exp;
    if (method && method->needs_log_sum_exp(at))
      log_sum_exp = scratch.log_sum_exp.view().slice(0, at.tokens);
    std::int64_t sliding_window = c.sliding_window[static_cast<std::size_t>(at.layer)];
    // A window that no position reaches beyond hides nothing, and costs nothing then.
    if (sliding_window >= cache.next_position + at.prompt_tokens) sliding_window = 0;
    const LayerView layer{device, at, p.q, p.k, rows.positions, log_sum_exp, sliding_window};
    Selection selection;
    const auto go_on = method ? method->go_on(at) : std::nullopt;
    if (go_on && go_on->restart) {
      selection = select(*method, layer);
      if (hooks.layer_done) hooks.layer_done({at, selection, rows.positions});
      shrink(go_on->tokens, [&] { restart(model, device, rows, selection.going_on); });
      at = {.layer = -1, .prompt_tokens = rows.count(), .pass = at.pass + 1};
      continue;
    }

    rows.segments.front().cached = cache.layer(at.layer);
    AttentionArgs attention = attention_args(model, at.layer, rows, p, scratch, layout);
    attention.log_sum_exp = log_sum_exp;
    attention.sliding_window = sliding_window;
    device.attention(attention);
    project_out(model, device, at.layer, rows, scratch);

    // The cache keeps what the method chooses, or everything.
    std::int64_t kept = at.tokens;
    std::int64_t heads = cache.head_count(at.layer) ? cache.head_count(at.layer) : c.kv_heads;
    if (method) {
      selection = select(*method, layer);
      kept = selection.kept_count;
      heads = selection.kept_heads;
    }
    if (kept > 0) {
      cache.reserve(at.layer, heads, kept);
      const Device::StoreArgs store{.k = p.k,
                                    .v = p.v,
                                    .positions = rows.positions,
                                    .chosen = selection.kept,
                                    .first = 0,
                                    .count = kept,
                                    .cache = cache.layer(at.layer)};
      device.store({&store, 1}, layout);
      cache.stored(at.layer, kept);
    }

    mlp(model, device, at.layer, rows, scratch);

    // The tokens that go on.
    if (method && hooks.layer_done) hooks.layer_done({at, selection, rows.positions});
    if (selection.go_on) {
      shrink(selection.go_on->tokens, [&] { keep_rows(device, rows, selection.going_on); });
    }
    if (hooks.progress)
      hooks.progress(static_cast<double>(at.layer + 1) / static_cast<double>(c.layers));
  }

  cache.next_position +=
      at.pass == 0 ? static_cast<std::int64_t>(input.ids.size()) : at.prompt_tokens;
  const View last = rows.x.view().slice(rows.count() - 1, 1);
  PromptEnd end{device.empty(DType::f32, {1, c.hidden_size}),
                device.empty(DType::f32, {1, c.vocab_size})};
  device.rms_norm(last, model.weights.final_norm, static_cast<float>(c.norm_epsilon), end.hidden);
  head(model, device, last, end.logits, scratch.normed.view().slice(0, 1));
  return end;
}

struct Decoder::State {
  State(const Model& m, Device& d, const PageLayout& l, std::vector<SequenceCache*> c)
      : model(m), device(d), layout(l), caches(std::move(c)) {}

  /// One step's operations, all in buffers that stay where they are.
  void issue() {
    device.embed(rows.ids, model.weights.embedding, rows.x);
    for (std::int64_t layer = 0; layer < model.config.layers; ++layer) {
      const Projected p = project(model, device, layer, rows, scratch, false);
      for (std::size_t i = 0; i < caches.size(); ++i)
        rows.segments[i].cached = caches[i]->layer(layer);
      std::vector<Device::StoreArgs> stores;
      for (std::size_t i = 0; i < caches.size(); ++i) {
        stores.push_back({.k = p.k,
                          .v = p.v,
                          .positions = rows.positions,
                          .chosen = {},
                          .first = static_cast<std::int64_t>(i),
                          .count = 1,
                          .cache = caches[i]->layer(layer)});
      }
      AttentionArgs attention = attention_args(model, layer, rows, p, scratch, layout);
      attention.rope_frequencies = model.weights.rope_frequencies;
      device.attention_and_store(attention, stores);
      project_out(model, device, layer, rows, scratch);
      mlp(model, device, layer, rows, scratch);
    }
    head(model, device, rows.x, *logits, scratch.normed);
    if (draws) {
      device.draw(*logits, settings, next);
    } else {
      device.argmax(*logits, next);
    }
  }

  const Model& model;
  Device& device;
  PageLayout layout;
  std::vector<SequenceCache*> caches;
  std::vector<std::uint64_t> generations;
  Rows rows;
  Scratch scratch;
  Tensor settings;     // (S, Device::draw_ints) int32
  bool draws = false;  // more than the highest logits has been asked for
  Tensor next;         // (S) int32
  std::shared_ptr<Tensor> logits;
  std::unique_ptr<Recording> recording;
  std::int64_t steps = 0;  // issued with these addresses
};

Decoder::Decoder(const Model& model, Device& device, const PageLayout& layout,
                 std::vector<SequenceCache*> caches)
    : state_(std::make_unique<State>(model, device, layout, std::move(caches))) {
  State& s = *state_;
  const auto n = static_cast<std::int64_t>(s.caches.size());
  s.rows.ids = device.empty(DType::i32, {n});
  s.rows.x = device.empty(hidden_type, {n, model.config.hidden_size});
  s.rows.positions = device.empty(DType::i32, {n});
  for (std::int64_t i = 0; i < n; ++i)
    s.rows.segments.push_back({.first_row = i, .rows = 1, .cached = {}});
  s.scratch = make_scratch(model.config, device, n, false);
  s.settings = device.empty(DType::i32, {n, Device::draw_ints});
  s.next = device.empty(DType::i32, {n});
  s.logits = std::make_shared<Tensor>(device.empty(DType::f32, {n, model.config.vocab_size}));
  for (const SequenceCache* cache : s.caches) s.generations.push_back(cache->generation());
}

Decoder::~Decoder() = default;

bool Decoder::serves(std::span<SequenceCache* const> caches) const {
  const State& s = *state_;
  if (caches.size() != s.generations.size()) return false;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    if (caches[i]->generation() != s.generations[i]) return false;
  }
  return true;
}

const std::shared_ptr<Tensor>& Decoder::logits() const { return state_->logits; }

std::vector<std::int32_t> Decoder::step(std::span<const std::int32_t> ids,
                                        std::span<const DrawSettings> settings) {
  State& s = *state_;
  assert(ids.size() == s.caches.size());
  assert(settings.empty() || settings.size() == ids.size());
  std::vector<std::int32_t> positions;
  for (std::size_t i = 0; i < s.caches.size(); ++i) {
    SequenceCache& cache = *s.caches[i];
    positions.push_back(static_cast<std::int32_t>(cache.next_position));
    for (std::int64_t layer = 0; layer < s.model.config.layers; ++layer) {
      const std::int64_t heads = cache.head_count(layer);
      cache.reserve(layer, heads ? heads : s.model.config.kv_heads, 1);
    }
    if (cache.generation() != s.generations[i]) {  // a table has moved
      s.generations[i] = cache.generation();
      s.recording.reset();
      s.steps = 0;
    }
  }
  const auto samples = [](const DrawSettings& one) { return one.temperature > 0; };
  if (!s.draws && std::any_of(settings.begin(), settings.end(), samples)) {
    // Other operations than before. They stay, rows that do not sample cost them little.
    s.draws = true;
    s.recording.reset();
    s.steps = 0;
  }
  if (s.draws) {
    std::vector<DrawSettings> rows(settings.begin(), settings.end());
    rows.resize(ids.size());
    s.device.upload(rows.data(), s.settings);
  }
  s.device.upload(ids.data(), s.rows.ids);
  s.device.upload(positions.data(), s.rows.positions);
  std::vector<std::int32_t> next(ids.size());
  try {
    // The first step may still tune what it runs, the second is recorded.
    if (s.recording) {
      s.recording->replay();
    } else if (s.steps == 0) {
      s.issue();
    } else {
      s.recording = s.device.record([&s] { s.issue(); });
    }
    ++s.steps;
    for (SequenceCache* cache : s.caches) {
      ++cache->next_position;
      for (std::int64_t layer = 0; layer < s.model.config.layers; ++layer) cache->stored(layer, 1);
    }
    s.device.download(s.next, next.data());
  } catch (...) {
    // Some layers may have stored the tokens and others not.
    for (SequenceCache* cache : s.caches) cache->clear();
    throw;
  }
  return next;
}

}  // namespace fastkv
