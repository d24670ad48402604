#pragma once

#include <optional>

#include "cache/kv_cache.h"
#include "engine/sampler.h"
#include "engine/trace.h"
#include "fastkv/engine.h"
#include "model/forward.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fastkv {

struct Text::State {
  std::string directory;
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat_template;
};

/// What all sessions of an engine share.
struct Engine::State {
  EngineOptions options;
  ModelInfo info;
  Model model;
  std::unique_ptr<Device> device;
  PageLayout layout;
  std::unique_ptr<PagePool> pages;
  std::unique_ptr<Decoder> decoder;  // of the sessions that decoded last
  std::optional<Text> text;
};

struct Session::State {
  State(Engine::State& owner, const MethodChoice& choice, bool trace);

  /// Session::step() with the settings that each session's next token is drawn with.
  static std::vector<TokenId> step(std::span<Session* const> sessions,
                                   std::span<const TokenId> tokens,
                                   std::span<const DrawSettings> settings);

  /// Forgets everything but the method and how tokens are drawn.
  void clear();
  void clear_report();

  void set_end(PromptEnd end) {
    logits = std::make_shared<Tensor>(std::move(end.logits));
    hidden = std::move(end.hidden);
    logits_row = 0;
    next.reset();
  }

  Engine::State& engine;
  std::unique_ptr<Method> method;
  SequenceCache cache;
  std::shared_ptr<Tensor> logits;  // (any, V) float32, of which row `logits_row` belongs here:
  std::int64_t logits_row = 0;     // after the last token fed
  Tensor hidden;                   // (1, H) float32 of the last token appended
  std::optional<TokenId> next;     // the most likely token there, where a step has told
  std::optional<TokenId> pending;  // drawn, but not yet through the model
  std::vector<TokenId> history;    // everything appended and drawn, for the repeat penalty
  Sampler sampler{Sampling{}};     // of draw() and step()
  Report report;
  std::optional<Trace> trace;
};

}  // namespace fastkv
