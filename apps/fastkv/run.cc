#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct RunOptions {
  EngineOptions engine;
  std::string method = "fastkv";
  std::string prompt, prompt_file, prompt_ids;
  bool chat = false;
  std::string system;
  std::int64_t tokens = 256;
  std::int64_t min_tokens = 0;
  Sampling sampling;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool no_bos = false;
  bool json = false;
  std::string trace;

  void visit(OptionVisitor& v) {
    engine.visit(v);
    v.text("method", "NAME", method, "how to compress; fastkv methods lists them");
    v.text("prompt", "TEXT", prompt, "the prompt, or a question behind --prompt-file's text");
    v.text("prompt-file", "FILE", prompt_file, "read the prompt from a file, - for standard input");
    v.text("prompt-ids", "FILE", prompt_ids, "read the prompt as a JSON list of token ids");
    v.flag("chat", chat, "put the prompt into the model's chat template; without a prompt: talk");
    v.text("system", "TEXT", system, "system message of the chat");
    v.integer("n", tokens, {.low = 0}, "new tokens at most");
    v.integer("min-tokens", min_tokens, {.low = 0},
              "new tokens before which no end token is taken");
    sampling.visit(v);
    v.texts("stop", "TEXT", stop, "end the answer before this text");
    v.flag("ignore-eos", ignore_eos, "go on after an end token");
    v.flag("no-bos", no_bos, "put no beginning-of-sequence token in front");
    v.flag("json", json, "print answer and report as one JSON object");
    v.text("trace", "FILE", trace, "write what was selected, as JSON");
  }
};

/// What chooses among tokens to draw from does nothing where none is drawn.
void refuse_unused_sampling(const Arguments& given, const Sampling& sampling) {
  if (sampling.temperature > 0) return;
  for (const char* name : {"top-k", "top-p", "min-p"}) {
    if (!given.has(name)) continue;
    throw Error(fmt::format(
        "--{} chooses among tokens to draw from, and at temperature 0 the most likely one is "
        "taken; give a --temperature above 0, or leave --{} out",
        name, name));
  }
}

std::atomic<bool> interrupted = false;

/// From here on Ctrl-C ends the answer after the current token; a second one ends the program.
void watch_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

std::vector<TokenId> read_ids(const std::string& path) {
  try {
    return ids_of(nlohmann::json::parse(read_input(path), nullptr, /*allow_exceptions=*/false));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", path, error.what()));
  }
}

std::vector<TokenId> read_prompt(const RunOptions& o, const Engine& engine) {
  if (!o.prompt_ids.empty()) return read_ids(o.prompt_ids);
  std::string text = o.prompt_file.empty() ? o.prompt : read_input(o.prompt_file);
  if (!o.prompt_file.empty() && !o.prompt.empty()) text += "\n" + o.prompt;
  if (text.empty()) throw Error("the prompt is empty; give some text");
  if (o.chat) {
    std::vector<ChatMessage> messages;
    if (!o.system.empty()) messages.push_back({"system", o.system});
    messages.push_back({"user", text});
    text = engine.text().render_chat(messages);
  }
  return engine.text().encode(text, !o.no_bos);
}

/// "820" where all layers agree, "820, 820, 164 ..." as runs otherwise.
std::string by_layer(const std::vector<std::int64_t>& values) {
  std::string text;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t end = i;
    while (end < values.size() && values[end] == values[i]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", values[i]);
    if (end - i > 1 && end - i < values.size()) text += fmt::format(" (x{})", end - i);
    i = end;
  }
  return text;
}

void print_report(const Report& r) {
  fmt::print(stderr,
             "\nmethod          {} {}\n"
             "prompt          {} tokens; entered layers: {}\n"
             "kept a head     {}\n"
             "KV cache        {} MiB of {} MiB ({:.1f} %)\n"
             "prefill         {:.3f} s, {:.0f} tokens/s; selection {:.1f} ms ({:.2f} %)\n"
             "first token     {:.3f} s\n"
             "decode          {} tokens, {:.1f} tokens/s\n"
             "memory          {} MiB planned for the prompt, peak {} MiB with the weights\n",
             r.method, r.options, r.prompt_tokens, by_layer(r.layer_tokens),
             by_layer(r.kept_tokens), mebibytes(r.kv_bytes), mebibytes(r.kv_bytes_full),
             100.0 * static_cast<double>(r.kv_bytes) / static_cast<double>(r.kv_bytes_full),
             r.prefill_seconds, r.prefill_tokens_per_second(), r.selection_seconds * 1e3,
             100.0 * r.selection_seconds / r.prefill_seconds, r.first_token_seconds,
             r.generated_tokens, r.decode_tokens_per_second(), mebibytes(r.planned_memory),
             mebibytes(r.peak_memory));
}

void print_json(const Generation& g, const Report& report, const Engine& engine) {
  nlohmann::ordered_json out;
  out["text"] = g.text;
  out["ids"] = g.ids;
  out["finish_reason"] = name_of(g.reason);
  out["model"] = engine.info().name;
  out["device"] = engine.info().device;
  out["report"] = nlohmann::ordered_json::parse(report.json());
  fmt::print("{}\n", out.dump());
}

GenerateOptions generate_options(const RunOptions& o) {
  GenerateOptions g;
  g.max_tokens = o.tokens;
  g.min_tokens = o.min_tokens;
  g.sampling = o.sampling;
  g.stop = o.stop;
  g.ignore_eos = o.ignore_eos;
  g.cancel = &interrupted;
  if (!o.json) {
    g.on_text = [](std::string_view piece) {
      fmt::print("{}", piece);
      std::fflush(stdout);
    };
  }
  return g;
}

/// Talks until the end of input. The cache stays; each turn adds only what is new.
int converse(const RunOptions& o, const Engine& engine, Session& session) {
  Chat chat(engine, session, o.system);
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) fmt::print(stderr, "{}; empty line or Ctrl-D ends\n", engine.info().name);
  std::string line;
  while (true) {
    if (terminal) fmt::print(stderr, "> ");
    if (!std::getline(std::cin, line) || line.empty()) break;
    interrupted = false;
    watch_interrupt();
    chat.say(line, generate_options(o));
    fmt::print("\n");
  }
  if (session.position() > 0) print_report(session.report());
  return 0;
}

int run(std::span<const std::string> arguments) {
  RunOptions o;
  MethodChoice method;
  const Arguments given = read_arguments(arguments, o, "run", &method.options);
  refuse_words(given, "run");
  refuse_unused_sampling(given, o.sampling);
  method.name = o.method;
  const bool has_text = !o.prompt.empty() || !o.prompt_file.empty();
  const bool talk = !has_text && o.prompt_ids.empty() && o.chat;
  if (has_text == !o.prompt_ids.empty() && !talk) {
    throw Error(
        "give one prompt: --prompt TEXT, --prompt-file FILE or both, or --prompt-ids FILE (or "
        "--chat alone, to talk)");
  }
  if (!o.system.empty() && !o.chat)
    throw Error("--system is a part of the chat template; it needs --chat");
  if (o.no_bos && o.chat)
    throw Error("--no-bos has no meaning with --chat, whose template writes the first token");
  if (o.min_tokens > o.tokens)
    throw Error(fmt::format("--min-tokens {} is above -n {}", o.min_tokens, o.tokens));
  if (!o.prompt_ids.empty() && o.chat)
    throw Error("--prompt-ids is a finished prompt; leave --chat out");
  if (talk && (o.json || !o.trace.empty()))
    throw Error("--json and --trace need one prompt; give --prompt");
  if (!o.trace.empty()) check_writable(o.trace);
  use_bundled_model(o.engine);

  Engine engine = [&] {
    ProgressBar bar("load   ");
    return Engine(o.engine, bar.callback());
  }();
  Session session = engine.start(method, !o.trace.empty());
  if (talk) return converse(o, engine, session);

  const std::vector<TokenId> ids = read_prompt(o, engine);
  {
    ProgressBar bar("prefill");
    session.append(ids, bar.callback());
  }
  watch_interrupt();  // before, it ends the program
  const Generation answer = session.generate(generate_options(o));
  if (!o.trace.empty()) write_file(o.trace, session.trace());
  if (o.json) {
    print_json(answer, session.report(), engine);
  } else {
    if (!engine.info().has_tokenizer) fmt::print("{}", fmt::join(answer.ids, " "));
    fmt::print("\n");
    std::fflush(stdout);
    print_report(session.report());
  }
  if (answer.reason != FinishReason::cancelled) return 0;
  fmt::print(stderr, "interrupted: the answer is not whole\n");
  return 128 + SIGINT;
}

}  // namespace

Command run_command() {
  return {
      .name = "run",
      .summary = "Runs one prompt through a method and answers it, or talks.",
      .usage =
          "[--method NAME] (--prompt TEXT | --prompt-file FILE | --prompt-ids FILE | --chat) "
          "[options]",
      .details = "The answer goes to standard output as it comes, the report to standard error.\n",
      .options = [] { return list_options(RunOptions{}); },
      .method_options = true,
      .run = run};
}

}  // namespace fastkv::cli
