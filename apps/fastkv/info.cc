#include <fmt/format.h>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

int run(std::span<const std::string> arguments) {
  EngineOptions options;
  refuse_words(read_arguments(arguments, options, "info"), "info");
  fmt::print("fastkv {}\n\ndevices\n", FASTKV_VERSION);
  for (const std::string& device : list_devices()) fmt::print("  {}\n", device);
  fmt::print("\nshapes for --random-weights\n  {}\n", fmt::join(list_presets(), ", "));
  if (options.model.empty() && options.random_weights.empty() && bundled_model().empty()) return 0;
  use_bundled_model(options);

  const Engine engine(options);
  const ModelInfo& i = engine.info();
  fmt::print(
      "\nmodel {}\n"
      "  architecture   {}, {} layers, hidden {}, MLP {}, {} query / {} KV heads of {}\n"
      "  vocabulary     {} tokens; positions {}\n"
      "  parameters     {:.1f} million, {:.1f} million multiplied with every prompt token\n"
      "  weights        {} MiB as loaded, computed as {}\n"
      "  full KV cache  {:.2f} KiB a token\n"
      "  tokenizer      {}; chat template {}\n",
      i.name, i.architecture, i.layers, i.hidden_size, i.intermediate_size, i.query_heads,
      i.kv_heads, i.head_dim, i.vocab_size, i.max_positions,
      static_cast<double>(i.parameters) / 1e6, static_cast<double>(i.linear_parameters) / 1e6,
      mebibytes(i.weight_bytes), i.dtype, static_cast<double>(i.kv_bytes_per_token) / 1024,
      i.has_tokenizer ? "yes" : "no", i.has_chat_template ? "yes" : "no");
  return 0;
}

}  // namespace

Command info_command() {
  return {.name = "info",
          .summary = "Shows devices, and what a model is and needs.",
          .usage = "[--model DIR | --random-weights PRESET]",
          .details = "",
          .options = [] { return list_options(EngineOptions{}); },
          .method_options = false,
          .run = run};
}

}  // namespace fastkv::cli
