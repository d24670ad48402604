#include "fastkv/inspect.h"

#include <fmt/format.h>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct InspectOptions {
  EngineOptions engine;
  std::string method = "fastkv";
  std::string prompt, prompt_file;
  bool chat = false;
  std::string html = "inspect.html";

  void visit(OptionVisitor& v) {
    engine.visit(v);
    v.text("method", "NAME", method, "how to compress; fastkv methods lists them");
    v.text("prompt", "TEXT", prompt, "the prompt");
    v.text("prompt-file", "FILE", prompt_file, "read the prompt from a file, - for standard input");
    v.flag("chat", chat, "put the prompt into the model's chat template");
    v.text("html", "FILE", html, "the page to write");
  }
};

int run(std::span<const std::string> arguments) {
  InspectOptions o;
  MethodChoice method;
  refuse_words(read_arguments(arguments, o, "inspect", &method.options), "inspect");
  method.name = o.method;
  if (o.prompt.empty() == o.prompt_file.empty())
    throw Error("give one prompt: --prompt TEXT or --prompt-file FILE");
  check_writable(o.html);
  use_bundled_model(o.engine);
  Engine engine = [&] {
    ProgressBar bar("load   ");
    return Engine(o.engine, bar.callback());
  }();
  Session session = engine.start(method, /*trace=*/true);

  std::string text = o.prompt_file.empty() ? o.prompt : read_input(o.prompt_file);
  if (o.chat) {
    const ChatMessage message{"user", text};
    text = engine.text().render_chat({&message, 1});
  }
  const std::vector<TokenId> ids = engine.text().encode(text);
  {
    ProgressBar bar("prefill");
    session.append(ids, bar.callback());
  }
  write_file(o.html,
             inspection_page(engine.info().name, token_texts(engine.text(), ids), session.trace()));
  const Report& r = session.report();
  fmt::print("wrote {}: {} tokens, {} MiB of {} MiB kept\n", o.html, r.prompt_tokens,
             mebibytes(r.kv_bytes), mebibytes(r.kv_bytes_full));
  return 0;
}

}  // namespace

Command inspect_command() {
  return {.name = "inspect",
          .summary = "Shows which tokens of a prompt survive, layer by layer, as a page.",
          .usage = "[--method NAME] (--prompt TEXT | --prompt-file FILE) [--html FILE] [options]",
          .details = "The page needs nothing else; open it with any browser.\n",
          .options = [] { return list_options(InspectOptions{}); },
          .method_options = true,
          .run = run};
}

}  // namespace fastkv::cli
