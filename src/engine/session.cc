#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "engine/state.h"
#include "engine/text_filter.h"

namespace fastkv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_ids(std::span<const TokenId> ids, std::int64_t position, const ModelConfig& config) {
  if (ids.empty()) fail("the prompt is empty; give at least one token");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config.vocab_size) {
      fail("token {} of the prompt is id {}, outside the vocabulary of {} tokens", i, ids[i],
           config.vocab_size);
    }
  }
  const std::int64_t total = position + static_cast<std::int64_t>(ids.size());
  if (total > config.max_positions) {
    fail(
        "the prompt has {} tokens, but the model was made for {}; shorten it, or accept it (and "
        "what is generated behind it) with --max-positions {} or more",
        total, config.max_positions, total);
  }
}

/// Options with their values as a JSON object; those without a value are left out.
std::string options_json(const std::vector<OptionInfo>& options) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const OptionInfo& info : options) {
    const std::string& value = info.fallback;
    if (value.empty()) continue;
    using Kind = OptionInfo::Kind;
    const bool is_text = info.kind == Kind::text || info.kind == Kind::choice;
    json[json_key(info.name)] =
        is_text ? nlohmann::ordered_json(value) : nlohmann::ordered_json::parse(value);
  }
  return json.dump();
}

/// How many pairs of query and key a layer's causal attention looks at.
double visible_pairs(Device& device, const LayerReport& layer, std::int64_t sliding_window) {
  const auto n = static_cast<double>(layer.at.tokens);
  if (sliding_window == 0 || sliding_window >= layer.at.prompt_tokens) return n * (n + 1) / 2;
  const auto w = static_cast<double>(sliding_window);
  if (layer.at.tokens == layer.at.prompt_tokens) return w * (w + 1) / 2 + (n - w) * w;
  // Where tokens stayed behind, windows hold as many as their positions say.
  std::vector<std::int32_t> positions(static_cast<std::size_t>(layer.at.tokens));
  device.download(layer.positions, positions.data());
  double pairs = 0;
  std::size_t oldest = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    while (positions[i] - positions[oldest] >= sliding_window) ++oldest;
    pairs += static_cast<double>(i - oldest + 1);
  }
  return pairs;
}

/// What this layer computed at least; nothing where its queries only chose tokens for a restart.
void count_flops(const Model& model, Device& device, const LayerReport& layer, Report& report) {
  if (layer.selection.go_on && layer.selection.go_on->restart) return;
  const ModelConfig& c = model.config;
  const auto n = static_cast<double>(layer.at.tokens);
  const auto parameters = static_cast<double>(c.linear_parameters() - c.vocab_size * c.hidden_size);
  report.linear_flops += 2.0 * n * parameters / static_cast<double>(c.layers);
  // Two products.
  const std::int64_t window = c.sliding_window[static_cast<std::size_t>(layer.at.layer)];
  report.attention_flops +=
      4.0 * visible_pairs(device, layer, window) * static_cast<double>(c.query_heads * c.head_dim);
}

}  // namespace

Session::State::State(Engine::State& owner, const MethodChoice& choice, bool with_trace)
    : engine(owner), cache(*owner.pages, owner.model.config.layers) {
  method = find_method(choice.name).make(choice.options, owner.model.shape());
  report.method = choice.name;
  report.options = options_json(method->settings);
  if (with_trace) trace.emplace(owner.model.config, report.method, report.options);
}

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

void Session::append(std::span<const TokenId> ids, const ProgressCallback& progress) {
  State& s = *state_;
  Engine::State& e = s.engine;
  check_ids(ids, s.cache.next_position + (s.pending ? 1 : 0), e.model.config);

  std::size_t planned = 0;
  if (s.cache.empty()) {
    const MemoryPlan memory = plan(static_cast<std::int64_t>(ids.size()));
    if (!memory.fits()) {
      fail(
          "a prompt of {} tokens needs {:.1f} GiB of memory beside the weights' {:.1f} GiB, but "
          "{:.1f} "
          "GiB are free; shorten it, keep a smaller share of it, or choose a smaller model",
          ids.size(), static_cast<double>(memory.prompt) / 0x1p30,
          static_cast<double>(memory.weights) / 0x1p30, static_cast<double>(memory.free) / 0x1p30);
    }
    planned = memory.prompt;
  }
  s.history.insert(s.history.end(), ids.begin(), ids.end());

  // A drawn token that has not been through the model yet goes first.
  std::vector<TokenId> with_pending;
  if (s.pending) {
    with_pending.push_back(*s.pending);
    with_pending.insert(with_pending.end(), ids.begin(), ids.end());
    ids = with_pending;
    s.pending.reset();
  }
  try {
    const Input input{s.cache, ids};
    const auto start = Clock::now();
    if (s.cache.empty()) {
      s.clear_report();
      Report& r = s.report;
      std::vector<std::pair<std::shared_ptr<TimeStamp>, std::shared_ptr<TimeStamp>>> selections;
      ForwardHooks hooks;
      hooks.progress = progress;
      hooks.layer_done = [&](const LayerReport& layer) {
        // A restart's pass replaces what the pass before it did.
        if (layer.at.layer == 0) r.layer_tokens.clear();
        r.layer_tokens.push_back(layer.at.tokens);
        count_flops(e.model, *e.device, layer, r);
        if (layer.selection.begin)
          selections.emplace_back(layer.selection.begin, layer.selection.end);
        if (s.trace) s.trace->add(*e.device, layer);
      };
      e.device->reset_peak_memory();
      s.set_end(forward(e.model, *e.device, input, e.layout, s.method.get(), hooks));
      e.device->synchronize();
      r.planned_memory = planned;
      r.prompt_tokens = static_cast<std::int64_t>(ids.size());
      r.prefill_seconds = r.first_token_seconds = seconds_since(start);
      for (const auto& [begin, end] : selections) r.selection_seconds += end->seconds_since(*begin);
      for (std::int64_t layer = 0; layer < e.model.config.layers; ++layer) {
        r.kept_tokens.push_back(s.cache.length(layer));
        r.cached_heads.push_back(s.cache.head_count(layer));
        const std::int64_t window = e.model.config.sliding_window[static_cast<std::size_t>(layer)];
        const std::int64_t seen =
            window > 0 ? std::min(window, r.kept_tokens.back()) : r.kept_tokens.back();
        r.kv_bytes_read +=
            static_cast<std::size_t>(seen * r.cached_heads.back()) * e.layout.entry_bytes();
      }
      r.kv_bytes = s.cache.bytes();
      r.kv_bytes_full = e.info.kv_bytes_per_token * ids.size();
      if (s.trace) s.trace->finish(*e.device, s.cache, *s.logits, r.prompt_tokens);
    } else {
      s.set_end(forward(e.model, *e.device, input, e.layout, nullptr,
                        {.layer_done = {}, .progress = progress}));
    }
  } catch (...) {
    // Some layers may have stored the tokens and others not: nothing half-written is left behind.
    s.clear();
    throw;
  }
  s.report.peak_memory = s.engine.device->peak_memory();
}

void Session::State::clear_report() {
  Report fresh;
  fresh.method = report.method;
  fresh.options = report.options;
  report = std::move(fresh);
}

void Session::State::clear() {
  cache.clear();
  logits.reset();
  hidden = {};
  next.reset();
  pending.reset();
  history.clear();
  clear_report();
  if (trace) trace.emplace(engine.model.config, report.method, report.options);
}

std::vector<TokenId> Session::State::step(std::span<Session* const> sessions,
                                          std::span<const TokenId> tokens,
                                          std::span<const DrawSettings> settings) {
  Engine::State& e = sessions.front()->state_->engine;
  std::vector<SequenceCache*> caches;
  for (Session* session : sessions) caches.push_back(&session->state_->cache);
  if (!e.decoder || !e.decoder->serves(caches))
    e.decoder = std::make_unique<Decoder>(e.model, *e.device, e.layout, caches);
  std::vector<TokenId> next;
  try {
    next = e.decoder->step(tokens, settings);
  } catch (...) {
    for (Session* session : sessions) {
      if (session->state_->cache.empty()) session->state_->clear();
    }
    throw;
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    State& s = *sessions[i]->state_;
    s.logits = e.decoder->logits();
    s.logits_row = static_cast<std::int64_t>(i);
    s.next.reset();
    if (settings[i].temperature == 0) s.next = next[i];
  }
  return next;
}

void Session::set_sampling(const Sampling& sampling) { state_->sampler = Sampler(sampling); }

TokenId Session::draw() {
  State& s = *state_;
  if (s.pending) fail("the token drawn last has not been appended; feed it with step() first");
  return s.sampler.greedy() && s.next ? *s.next : s.sampler.draw(logits(), s.history);
}

std::vector<TokenId> Session::step(std::span<Session* const> sessions,
                                   std::span<const TokenId> tokens) {
  if (sessions.empty()) return {};
  if (sessions.size() != tokens.size()) fail("step() needs one token a session");
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    const State& s = *sessions[i]->state_;
    if (&s.engine != &sessions.front()->state_->engine) fail("step() takes sessions of one engine");
    const auto before = sessions.first(i);
    if (std::find(before.begin(), before.end(), sessions[i]) != before.end())
      fail("step() takes each session once");
    if (s.pending && *s.pending != tokens[i])
      fail("the token that a session drew last has not been appended; step() goes on with it");
    if (s.cache.empty()) fail("a session needs a prompt before it can take single tokens");
    check_ids(tokens.subspan(i, 1), s.cache.next_position, s.engine.model.config);
  }
  std::vector<DrawSettings> settings;
  for (Session* session : sessions) {
    Sampler& sampler = session->state_->sampler;
    settings.push_back(sampler.looks_back() ? DrawSettings{} : sampler.next());
  }
  std::vector<TokenId> next = State::step(sessions, tokens, settings);
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    State& s = *sessions[i]->state_;
    if (s.pending) {
      s.pending.reset();  // generate() has noted it
    } else {
      s.history.push_back(tokens[i]);
    }
    if (s.sampler.looks_back()) next[i] = sessions[i]->draw();
  }
  return next;
}

Generation Session::generate(const GenerateOptions& options) {
  State& s = *state_;
  if (s.cache.empty()) fail("there is nothing to go on from; append a prompt first");
  const ModelConfig& config = s.engine.model.config;
  Sampler sampler(options.sampling);
  TextFilter text(s.engine.text ? &s.engine.text->state_->tokenizer : nullptr, options.stop,
                  options.on_text);
  Generation result;
  auto start = Clock::now();
  for (const TokenId id : options.end_ids) {
    if (id < 0 || id >= config.vocab_size)
      fail("the end token {} is outside the vocabulary of {} tokens", id, config.vocab_size);
  }
  const std::span<const TokenId> ends =
      options.end_ids.empty() ? std::span<const TokenId>(config.eos_ids) : options.end_ids;
  const auto is_end = [&](TokenId token) {
    return std::find(ends.begin(), ends.end(), token) != ends.end();
  };
  // What the device cannot draw: the first token, one that looks back, one that must not end.
  const auto draw_here = [&](bool may_end) {
    if (sampler.greedy() && s.next && (may_end || !is_end(*s.next))) return *s.next;
    std::vector<float> values = logits();
    if (!may_end) {
      for (const TokenId id : ends)
        values[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
    }
    return sampler.draw(std::move(values), s.history);
  };

  while (static_cast<std::int64_t>(result.ids.size()) < options.max_tokens) {
    if (options.cancel && *options.cancel) {
      result.reason = FinishReason::cancelled;
      break;
    }
    const bool may_end = static_cast<std::int64_t>(result.ids.size()) >= options.min_tokens;
    std::optional<TokenId> drawn;
    if (s.pending) {
      if (s.cache.next_position >= config.max_positions) break;
      const bool device_draws = may_end && !sampler.looks_back();
      const DrawSettings settings = device_draws ? sampler.next() : DrawSettings{};
      Session* self = this;
      const TokenId next = State::step({&self, 1}, {&*s.pending, 1}, {&settings, 1}).front();
      s.pending.reset();
      if (device_draws) drawn = next;
    }
    const TokenId token = drawn ? *drawn : draw_here(may_end);
    s.next.reset();
    s.pending = token;
    s.history.push_back(token);
    result.ids.push_back(token);
    if (s.trace) s.trace->add_greedy(token);
    if (result.ids.size() == 1) {
      if (s.report.generated_tokens == 0)
        s.report.first_token_seconds = s.report.prefill_seconds + seconds_since(start);
      start = Clock::now();
    }
    if (is_end(token) && !options.ignore_eos) {
      result.reason = FinishReason::end_token;
      break;
    }
    if (!text.add(token)) {
      result.reason = FinishReason::stop_text;
      break;
    }
  }
  result.text = text.finish();
  s.report.decode_seconds = seconds_since(start);
  s.report.generated_tokens = static_cast<std::int64_t>(result.ids.size());
  s.report.peak_memory = s.engine.device->peak_memory();
  return result;
}

std::vector<float> Session::logits() const {
  const State& s = *state_;
  if (!s.logits) fail("a session has no logits before its prompt");
  std::vector<float> values(static_cast<std::size_t>(s.engine.model.config.vocab_size));
  s.engine.device->download(s.logits->view().slice(s.logits_row, 1), values.data());
  return values;
}

std::vector<float> Session::hidden() const {
  const State& s = *state_;
  if (!s.hidden) fail("a session has no hidden state before its prompt");
  std::vector<float> values(static_cast<std::size_t>(s.engine.model.config.hidden_size));
  s.engine.device->download(s.hidden, values.data());
  return values;
}

std::int64_t Session::position() const { return state_->cache.next_position; }

MemoryPlan Session::plan(std::int64_t prompt_tokens) const {
  const Engine::State& e = state_->engine;
  const PrefillBytes bytes =
      prefill_bytes(e.model.config, *e.device, e.layout, *state_->method, prompt_tokens);
  return {.weights = e.info.weight_bytes,
          .prompt = bytes.work + bytes.kept,
          .kept = bytes.kept,
          .free = e.device->free_memory()};
}

std::int64_t MemoryPlan::sequences() const {
  if (!fits()) return 0;
  if (kept == 0) return 1;
  return 1 + static_cast<std::int64_t>((free - prompt) / kept);
}

const Report& Session::report() const { return state_->report; }

std::string Session::trace() const {
  if (!state_->trace) fail("this session was started without a trace");
  return state_->trace->json();
}

}  // namespace fastkv
