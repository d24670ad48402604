#include <chrono>
#include <filesystem>

#include "core/error.h"
#include "core/json.h"
#include "engine/state.h"
#include "model/device_weights.h"

namespace fastkv {
namespace {

/// A sixteenth of a page of memory per head is wasted on average at 1K kept entries.
constexpr std::int64_t page_tokens = 64;

DType parse_dtype(const std::string& name) { return name == "float32" ? DType::f32 : DType::bf16; }

std::unique_ptr<Device> make_device(const EngineOptions& o) {
  if (o.device == "cuda" || (o.device == "auto" && has_cuda_device()))
    return make_cuda_device({.ordinal = 0, .activations = parse_dtype(o.dtype)});
  return make_cpu_device(
      {.threads = static_cast<int>(o.threads), .fast_bf16 = o.dtype == "bfloat16"});
}

ModelConfig config_of(const EngineOptions& o) {
  if (o.model.empty() == o.random_weights.empty()) {
    fail(
        "name either a checkpoint directory (--model DIR) or a shape for random weights "
        "(--random-weights PRESET)");
  }
  if (!o.model.empty()) return load_config(o.model);
  if (!std::filesystem::is_regular_file(o.random_weights)) return preset_config(o.random_weights);
  return parse_config(read_text_file(o.random_weights), o.random_weights);
}

ModelInfo describe(const EngineOptions& o, const Model& model, const Device& device,
                   const PageLayout& layout) {
  const ModelConfig& c = model.config;
  ModelInfo info;
  info.name = o.model.empty() ? o.random_weights + " (random weights)" : o.model;
  info.architecture = c.architecture;
  info.layers = c.layers;
  info.hidden_size = c.hidden_size;
  info.intermediate_size = c.intermediate_size;
  info.query_heads = c.query_heads;
  info.kv_heads = c.kv_heads;
  info.head_dim = c.head_dim;
  info.vocab_size = c.vocab_size;
  info.max_positions = c.max_positions;
  const std::int64_t head = c.vocab_size * c.hidden_size;
  info.linear_parameters = c.linear_parameters() - head;
  info.parameters = info.linear_parameters + (c.tied_embeddings ? 1 : 2) * head +
                    (2 * c.layers + 1) * c.hidden_size;
  info.weight_bytes = model.weights.bytes;
  info.kv_bytes_per_token = static_cast<std::size_t>(c.layers * c.kv_heads) * layout.entry_bytes();
  info.device = device.description();
  info.dtype = o.dtype;
  return info;
}

std::vector<MethodInfo> methods_for(const ModelShape& shape) {
  std::vector<MethodInfo> rows;
  for (const MethodEntry& entry : method_table()) {
    rows.push_back({std::string(entry.name), std::string(entry.summary), std::string(entry.paper),
                    entry.options(shape), std::string(entry.layer_option),
                    std::string(entry.share_option)});
  }
  return rows;
}

}  // namespace

Engine::Engine(const EngineOptions& options, const ProgressCallback& progress)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.options = options;
  s.model.config = config_of(options);
  ModelConfig& c = s.model.config;
  if (options.no_sliding_window) c.sliding_window.assign(c.sliding_window.size(), 0);
  if (options.max_positions > 0) c.max_positions = options.max_positions;

  const DType type = parse_dtype(options.dtype);
  s.device = make_device(options);
  s.model.weights =
      options.model.empty()
          ? random_weights(c, type, static_cast<std::uint64_t>(options.weight_seed), progress)
          : load_weights(options.model, c, type, progress);
  s.model.weights = move_to(*s.device, std::move(s.model.weights), progress);
  s.layout = {.page_tokens = page_tokens, .head_dim = c.head_dim, .type = type};
  s.pages = std::make_unique<PagePool>(*s.device, s.layout);
  s.info = describe(options, s.model, *s.device, s.layout);

  if (options.model.empty()) return;
  if (!Text::present_in(options.model)) return;
  s.text.emplace(options.model);
  s.info.has_tokenizer = true;
  s.info.has_chat_template = s.text->has_chat_template();
  if (s.text->vocab_size() > c.vocab_size) {
    fail(
        "the tokenizer in {} has {} tokens, but the model's vocabulary only {}; they do not belong "
        "together",
        options.model, s.text->vocab_size(), c.vocab_size);
  }
}

Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const ModelInfo& Engine::info() const { return state_->info; }

std::vector<MethodInfo> Engine::methods() const { return methods_for(state_->model.shape()); }

std::vector<MethodInfo> list_methods() {
  return methods_for({.layers = 32, .hidden_size = 4096, .query_heads = 32, .kv_heads = 8});
}

std::vector<MethodInfo> list_methods(const std::string& directory) {
  return methods_for(Model{.config = load_config(directory), .weights = {}}.shape());
}

std::vector<std::string> list_devices() {
  std::vector<std::string> lines = {"cpu: " + make_cpu_device({})->description()};
  if (has_cuda_device()) lines.push_back("cuda: " + make_cuda_device({})->description());
  return lines;
}

std::vector<std::string> list_presets() {
  const auto names = preset_names();
  return {names.begin(), names.end()};
}

const Text& Engine::text() const {
  if (!state_->text) {
    fail(
        "{} has no tokenizer (tokenizer.json or tokenizer.model); fastkv run takes a prompt as "
        "ids, with --prompt-ids",
        info().name);
  }
  return *state_->text;
}

Session Engine::start(const MethodChoice& method, bool trace) {
  return Session(std::make_unique<Session::State>(*state_, method, trace));
}

}  // namespace fastkv
