// Asks one question under two methods and prints answers and cache sizes.
// usage: compare_methods MODEL_DIR PROMPT

#include <cstdio>

#include "fastkv/engine.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL_DIR PROMPT\n", argv[0]);
    return 2;
  }
  try {
    fastkv::EngineOptions options;
    options.model = argv[1];
    fastkv::Engine engine(options);
    const auto prompt = engine.text().encode(argv[2]);

    const fastkv::MethodChoice methods[] = {{"full", {}}, {"fastkv", {{"retain", "0.2"}}}};
    for (const fastkv::MethodChoice& method : methods) {
      fastkv::Session session = engine.start(method);
      session.append(prompt);
      fastkv::GenerateOptions generate;
      generate.max_tokens = 16;
      const fastkv::Generation answer = session.generate(generate);
      std::printf("%s:%s (%zu bytes of KV cache)\n", method.name.c_str(), answer.text.c_str(),
                  session.report().kv_bytes);
    }
  } catch (const fastkv::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
