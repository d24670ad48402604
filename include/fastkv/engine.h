#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastkv/error.h"
#include "fastkv/options.h"
#include "fastkv/text.h"

/// The public interface: an Engine is a loaded model on a device, a Session is one sequence under
/// one method. Everything throws fastkv::Error for what a user can mend. One thread at a time may
/// use an Engine and its Sessions.
namespace fastkv {

/// Called with the share that is done, 0 to 1.
using ProgressCallback = std::function<void(double)>;

/// What to load and where to run it.
struct EngineOptions {
  std::string model;           // a Hugging Face checkpoint directory
  std::string random_weights;  // instead: a preset's name, or a config.json
  std::int64_t weight_seed = 0;
  std::string device = "auto";
  std::string dtype = "bfloat16";
  std::int64_t threads = 0;
  bool no_sliding_window = false;
  std::int64_t max_positions = 0;

  void visit(OptionVisitor& v) {
    v.text("model", "DIR", model, "Hugging Face checkpoint directory (default: the bundled model)");
    v.text("random-weights", "PRESET|FILE", random_weights,
           "run a shape without a checkpoint: a preset's name or a config.json");
    v.integer("seed", weight_seed, {.low = 0}, "seed of random weights and of sampling");
    v.choice("device", device, {"auto", "cpu", "cuda"}, "where to run");
    v.choice("dtype", dtype, {"float32", "bfloat16"},
             "type of weights and KV cache; float32 is for verification");
    v.integer("threads", threads, {.low = 0, .high = 4096}, "processor threads, 0: all cores");
    v.flag("no-sliding-window", no_sliding_window, "let every layer see everything");
    v.integer("max-positions", max_positions, {.low = 0},
              "accept prompts up to this length, 0: what the model was made for");
  }
};

/// What was loaded.
struct ModelInfo {
  std::string name;          // directory or preset
  std::string architecture;  // e.g. LlamaForCausalLM
  std::int64_t layers = 0, hidden_size = 0, intermediate_size = 0, query_heads = 0, kv_heads = 0;
  std::int64_t head_dim = 0, vocab_size = 0, max_positions = 0;
  std::int64_t parameters = 0;         // all of them
  std::int64_t linear_parameters = 0;  // that every prompt token is multiplied with
  std::size_t weight_bytes = 0;
  std::size_t kv_bytes_per_token = 0;  // full cache, all layers
  std::string device;                  // description
  std::string dtype;
  bool has_tokenizer = false;
  bool has_chat_template = false;
};

/// A method by name with its options as typed on a command line, e.g. {"retain", "0.2"}.
struct MethodChoice {
  std::string name = "fastkv";
  OptionValues options;
};

/// A row of the table of methods.
struct MethodInfo {
  std::string name, summary, paper;
  std::vector<OptionInfo> options;  // with the defaults for the engine's model
  /// Options that calibrate() looks for: the layer after which only some tokens go on, and their
  /// share. Empty: the method has none.
  std::string layer_option, share_option;
};

/// How the next token is drawn from the logits. Temperature 0 takes the most likely one. The device
/// draws, but for the first token after a prompt, tokens before a least number of them, and all
/// under a repeat penalty: their logits are brought to the host.
struct Sampling {
  double temperature = 0.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  double repeat_penalty = 1.0;
  std::int64_t seed = 0;

  void visit(OptionVisitor& v) {
    v.number("temperature", temperature, {0.0, 100.0}, "0: always the most likely token");
    v.integer("top-k", top_k, {.low = 0}, "draw from the k most likely tokens, 0: all");
    v.number("top-p", top_p, unit_rate,
             "draw from the most likely tokens that make up this probability");
    v.number("min-p", min_p, {0.0, 1.0},
             "drop tokens below this share of the most likely one's probability");
    v.number("repeat-penalty", repeat_penalty, {0.0, 100.0, true},
             "above 1: tokens that have occurred become less likely");
    v.integer("seed", seed, {.low = 0}, "seed of random weights and of sampling");
  }
};

struct GenerateOptions {
  std::int64_t max_tokens = 256;
  std::int64_t min_tokens = 0;  // before which no end token is taken
  Sampling sampling;
  std::vector<std::string> stop;  // text that ends the answer and is not part of it
  bool ignore_eos = false;
  std::vector<TokenId> end_ids;  // tokens that end the answer; empty: those of the model
  /// Called with each piece of text that is certain: whole characters, never part of a stop text.
  std::function<void(std::string_view)> on_text;
  /// Ends the generation after the current token when it becomes true.
  const std::atomic<bool>* cancel = nullptr;
};

/// Why a generation ended.
enum class FinishReason { end_token, stop_text, length, cancelled };
std::string_view name_of(FinishReason reason);

struct Generation {
  std::vector<TokenId> ids;  // an end token that was drawn is the last one
  std::string text;          // without end token and stop text
  FinishReason reason = FinishReason::length;
};

/// What a prompt will take of the device's memory, and what is there.
struct MemoryPlan {
  std::size_t weights = 0;  // there already
  std::size_t prompt = 0;   // activations and what the method keeps
  std::size_t kept = 0;     // of it, what stays after the prompt
  std::size_t free = 0;
  bool fits() const { return prompt <= free; }
  /// How many such prompts fit one after the other; what they generate takes more.
  std::int64_t sequences() const;
};

/// What a request cost, from its first prompt on. Times in seconds, sizes in bytes.
struct Report {
  std::string method;
  std::string options;  // JSON object, every option with its value
  std::int64_t prompt_tokens = 0;
  std::vector<std::int64_t> layer_tokens;  // that entered each layer
  std::vector<std::int64_t> kept_tokens;   // entries of each cached head after the prompt
  std::vector<std::int64_t> cached_heads;  // of each layer
  std::size_t kv_bytes_full = 0;           // what a full cache would hold after the prompt
  std::size_t kv_bytes = 0;                // what is held after the prompt
  std::size_t kv_bytes_read = 0;           // of it, at most, by a step: windows hide the rest
  double linear_flops = 0.0;               // of the prompt's linear layers, without the head
  double attention_flops = 0.0;            // of the prompt's causal attention, without scoring
  double prefill_seconds = 0.0;            // selection included
  double selection_seconds = 0.0;
  double first_token_seconds = 0.0;  // from the prompt to the first token
  std::int64_t generated_tokens = 0;
  double decode_seconds = 0.0;     // of the tokens after the first
  std::size_t planned_memory = 0;  // that the prompt was expected to take beside the weights
  std::size_t peak_memory = 0;     // of the process, or of the device, weights included

  double prefill_tokens_per_second() const;
  double decode_tokens_per_second() const;
  std::string json() const;
};

class Session;

/// All methods; defaults that depend on the model are those for LLaMA-3.1-8B.
std::vector<MethodInfo> list_methods();
/// The same with the defaults for the checkpoint in `directory`, of which only config.json is read.
std::vector<MethodInfo> list_methods(const std::string& directory);
/// A line for each device that an engine can run on.
std::vector<std::string> list_devices();
/// Names of the shapes that EngineOptions::random_weights knows.
std::vector<std::string> list_presets();

/// A model on a device.
class Engine {
 public:
  explicit Engine(const EngineOptions& options, const ProgressCallback& progress = {});
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  const ModelInfo& info() const;
  std::vector<MethodInfo> methods() const;

  /// Throws Error where the model came without a tokenizer.
  const Text& text() const;

  /// A new, empty sequence. Throws Error for a bad method choice. The engine must outlive it.
  Session start(const MethodChoice& method, bool trace = false);

 private:
  friend class Session;
  friend struct Measure;
  struct State;
  std::unique_ptr<State> state_;
};

/// One sequence: a prompt that is compressed, then any number of continuations and generations.
class Session {
 public:
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Appends tokens. The first call's are the prompt, which the method compresses; later ones are
  /// kept whole. Throws Error for no tokens, ids outside the vocabulary, or too many tokens, and
  /// changes nothing then; where memory runs out on the way, the session is empty afterwards.
  void append(std::span<const TokenId> ids, const ProgressCallback& progress = {});
  /// Draws tokens after what was appended. append() and generate() may alternate.
  Generation generate(const GenerateOptions& options);
  /// How draw() and step() choose tokens from here on, beginning with the seed. Before this is
  /// called they take the most likely ones.
  void set_sampling(const Sampling& sampling);
  /// Draws the token after what was appended; append it, or feed it with step().
  TokenId draw();
  /// Logits (V) after the last token appended or fed.
  std::vector<float> logits() const;
  /// Hidden state (H) of the last token of append(), after the last layer and the final norm.
  std::vector<float> hidden() const;
  /// Tokens whose keys and values went through the model.
  std::int64_t position() const;
  /// What a first prompt of so many tokens would take; append() refuses one that does not fit.
  MemoryPlan plan(std::int64_t prompt_tokens) const;

  const Report& report() const;
  /// What was selected, as JSON with the fields of docs/trace.md. Only with `trace` on.
  std::string trace() const;

  /// Appends one token to each of several sessions of one engine, in one pass over the weights, and
  /// draws the next token of each. Steps of the same sessions are the fastest. Where memory runs
  /// out on the way, the sessions are empty afterwards, or as before.
  static std::vector<TokenId> step(std::span<Session* const> sessions,
                                   std::span<const TokenId> tokens);

 private:
  friend class Engine;
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A conversation over a session: each turn adds only what is new, the cache stays.
class Chat {
 public:
  /// `system` may be empty. The engine must have a chat template.
  Chat(const Engine& engine, Session& session, std::string system);
  /// Appends the user's turn and answers it.
  Generation say(const std::string& text, const GenerateOptions& options,
                 const ProgressCallback& progress = {});

 private:
  const Engine& engine_;
  Session& session_;
  std::vector<ChatMessage> messages_;
  std::string rendered_;  // the conversation so far, as the template writes it
  std::string missing_;   // its end, where the session has not seen it
};

}  // namespace fastkv
