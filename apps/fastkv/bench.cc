#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

#include "command.h"
#include "fastkv/measure.h"
#include "output.h"

namespace fastkv::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  EngineOptions engine;
  std::string method = "full,fastkv";
  std::string context = "512,4096";
  std::string batch = "1";
  std::int64_t tokens = 32;
  std::int64_t repeats = 3;
  std::int64_t warmup = 1;
  double attention_ceiling = 0;
  std::string json, csv, plot;

  void visit(OptionVisitor& v) {
    engine.visit(v);
    v.text("method", "LIST", method, "methods to compare, or all");
    v.text("context", "LIST", context, "prompt lengths in tokens");
    v.text("batch", "LIST", batch, "sequences that decode together");
    v.integer("n", tokens, {.low = 2, .high = 1 << 24}, "new tokens a sequence");
    v.integer("repeats", repeats, {.low = 1, .high = 1 << 20},
              "timed runs; the table shows the median");
    v.integer("warmup", warmup, {.low = 0, .high = 1 << 20}, "runs before them");
    v.number("attention-ceiling", attention_ceiling, {0.0, 1e6},
             "TFLOP/s of the best attention known, for the floor; 0: measure ours");
    v.text("json", "FILE", json, "write every row and the setting as JSON");
    v.text("csv", "FILE", csv, "write the rows as CSV");
    v.text("plot", "FILE", plot, "draw time against context, a line a method: .svg or .png");
  }
};

/// What to run: prefill alone, decode alone (after one untimed prefill), both, or a profile of a
/// prefill by operation.
enum class What { prefill, decode, both, kernels };

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::vector<std::int64_t> split_numbers(const std::string& list, std::string_view option) {
  std::vector<std::int64_t> numbers;
  for (const std::string& part : split(list)) {
    const bool digits = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoll(part) < 1) {
      throw Error(
          fmt::format("--{} needs numbers above 0 with commas between, not '{}'", option, list));
    }
    numbers.push_back(std::stoll(part));
  }
  return numbers;
}

std::vector<TokenId> random_prompt(std::int64_t n, std::int64_t vocabulary) {
  std::mt19937_64 random(static_cast<std::uint64_t>(n));
  std::vector<TokenId> ids(static_cast<std::size_t>(n));
  for (TokenId& id : ids)
    id = static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocabulary));
  return ids;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
/// Half the distance between the extremes, relative to the median.
double spread(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return (*high - *low) / 2 / median(values);
}

/// One line of the result. Times are medians in seconds.
struct Row {
  std::int64_t context = 0, batch = 1;
  std::string method;
  double prefill = 0, prefill_spread = 0, prefill_floor = 0, gemm_share = 0, selection = 0;
  double step = 0, step_spread = 0, step_floor = 0;  // one token for each sequence
  std::size_t kv_bytes = 0;                          // of one sequence
  std::size_t kv_bytes_read = 0;                     // of them, by a step
  std::size_t peak_memory = 0;
  std::int64_t sequences = 0;  // that fit into the memory
};

/// The options given that this method has.
MethodChoice choose(const MethodInfo& info, const OptionValues& given) {
  MethodChoice choice{info.name, {}};
  for (const OptionInfo& o : info.options) {
    if (const auto v = given.find(o.name); v != given.end()) choice.options.insert(*v);
  }
  return choice;
}

double time_step(std::span<Session> sessions, std::vector<TokenId>& tokens) {
  std::vector<Session*> all;
  for (Session& s : sessions) all.push_back(&s);
  const auto start = std::chrono::steady_clock::now();
  tokens = Session::step(all, tokens);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Bench {
 public:
  Bench(const BenchOptions& options, Engine& engine, What what)
      : o_(options), engine_(engine), what_(what), ceilings_(measure_ceilings(engine)) {
    if (o_.attention_ceiling > 0) ceilings_.attention_flops = o_.attention_ceiling * 1e12;
  }

  const Ceilings& ceilings() const { return ceilings_; }

  Row measure(const MethodChoice& method, std::int64_t context, std::int64_t batch) {
    Row row{.context = context, .batch = batch, .method = method.name};
    const std::vector<TokenId> prompt = random_prompt(context, engine_.info().vocab_size);
    std::vector<Session> sessions;
    std::vector<double> prefills;
    row.sequences = engine_.start(method).plan(context).sequences();
    const std::int64_t runs = what_ == What::decode ? 1 : o_.warmup + o_.repeats;
    for (std::int64_t i = 0; i < runs; ++i) {
      Session session = engine_.start(method);
      session.append(prompt);
      const Report& r = session.report();
      if (i >= o_.warmup || what_ == What::decode) prefills.push_back(r.prefill_seconds);
      row.selection = r.selection_seconds;
      row.kv_bytes = r.kv_bytes;
      row.kv_bytes_read = r.kv_bytes_read;
      row.prefill_floor =
          r.linear_flops / ceilings_.gemm_flops + r.attention_flops / ceilings_.attention_flops;
      row.gemm_share = r.linear_flops / ceilings_.gemm_flops;
      row.peak_memory = r.peak_memory;
      if (i + 1 == runs) sessions.push_back(std::move(session));
    }
    row.prefill = median(prefills);
    row.prefill_spread = spread(prefills);
    row.gemm_share /= row.prefill;
    if (what_ == What::prefill) return row;

    while (static_cast<std::int64_t>(sessions.size()) < batch) {
      sessions.push_back(engine_.start(method));
      sessions.back().append(prompt);
    }
    std::vector<TokenId> tokens(sessions.size(), 1);
    std::vector<double> steps;
    // The first two steps of a batch prepare those after them.
    for (std::int64_t i = 0; i < o_.warmup + 2; ++i) time_step(sessions, tokens);
    for (std::int64_t i = 0; i < o_.tokens; ++i) steps.push_back(time_step(sessions, tokens));
    row.step = median(steps);
    row.step_spread = spread(steps);
    const auto bytes = static_cast<double>(weight_bytes_read()) +
                       static_cast<double>(batch) * static_cast<double>(row.kv_bytes_read);
    row.step_floor = bytes / ceilings_.memory_bytes;
    return row;
  }

 private:
  /// What one step must read: every weight but the embedding, of which it reads a row.
  std::size_t weight_bytes_read() const {
    const ModelInfo& i = engine_.info();
    const auto head = static_cast<double>(i.vocab_size * i.hidden_size);
    const double share =
        (static_cast<double>(i.linear_parameters) + head) / static_cast<double>(i.parameters);
    return static_cast<std::size_t>(share * static_cast<double>(i.weight_bytes));
  }

  const BenchOptions& o_;
  Engine& engine_;
  What what_;
  Ceilings ceilings_;
};

Json to_json(const Row& r) {
  return {{"context", r.context},
          {"batch", r.batch},
          {"method", r.method},
          {"prefill_seconds", r.prefill},
          {"prefill_spread", r.prefill_spread},
          {"prefill_tokens_per_second", static_cast<double>(r.context) / r.prefill},
          {"prefill_over_floor", r.prefill / r.prefill_floor},
          {"linear_share_of_gemm_rate", r.gemm_share},
          {"selection_share", r.selection / r.prefill},
          {"step_seconds", r.step},
          {"step_spread", r.step_spread},
          {"decode_tokens_per_second", r.step > 0 ? static_cast<double>(r.batch) / r.step : 0.0},
          {"step_over_floor", r.step_floor > 0 ? r.step / r.step_floor : 0.0},
          {"kv_bytes", r.kv_bytes},
          {"kv_bytes_read", r.kv_bytes_read},
          {"peak_memory", r.peak_memory},
          {"sequences_that_fit", r.sequences}};
}

/// A line for each of `rows`, which all have the same keys.
std::string to_csv(const Json& rows) {
  std::string text;
  for (const Json& json : rows) {
    std::string head, line;
    for (const auto& [key, value] : json.items()) {
      head += (head.empty() ? "" : ",") + key;
      line +=
          (line.empty() ? "" : ",") + (value.is_string() ? value.get<std::string>() : value.dump());
    }
    if (text.empty()) text = head + "\n";
    text += line + "\n";
  }
  return text;
}

Table to_table(const std::vector<Row>& rows, What what) {
  std::vector<std::string> head = {"context", "batch",       "method",     "prefill s", "+-",
                                   "tok/s",   "linear/GEMM", "over floor", "selection"};
  if (what != What::prefill) head.insert(head.end(), {"step ms", "+-", "tok/s", "bandwidth"});
  head.insert(head.end(), {"KV MiB", "peak MiB", "fit"});
  std::vector<bool> right(head.size(), true);
  right[2] = false;
  Table table(head, right);
  const auto percent = [](double share) { return fmt::format("{:.1f} %", 100 * share); };
  for (const Row& r : rows) {
    std::vector<std::string> cells = {
        fmt::format("{}", r.context),
        fmt::format("{}", r.batch),
        r.method,
        fmt::format("{:.3f}", r.prefill),
        percent(r.prefill_spread),
        fmt::format("{:.0f}", static_cast<double>(r.context) / r.prefill),
        percent(r.gemm_share),
        fmt::format("{:.2f}", r.prefill / r.prefill_floor),
        percent(r.selection / r.prefill)};
    if (what != What::prefill) {
      cells.insert(cells.end(), {fmt::format("{:.2f}", 1e3 * r.step), percent(r.step_spread),
                                 fmt::format("{:.1f}", static_cast<double>(r.batch) / r.step),
                                 percent(r.step_floor / r.step)});
    }
    cells.insert(cells.end(),
                 {mebibytes(r.kv_bytes), mebibytes(r.peak_memory), fmt::format("{}", r.sequences)});
    table.add(cells);
  }
  return table;
}

/// Time against context: of the prompt, or of a step where only decode was measured.
LineChart to_chart(const std::vector<Row>& rows, What what, const ModelInfo& model) {
  const bool steps = what == What::decode;
  LineChart chart;
  chart.title = fmt::format("{}: {}", model.name, steps ? "one token after a prompt" : "prefill");
  chart.subtitle = model.device + ", " + model.dtype;
  chart.x_label = "prompt tokens";
  chart.y_label = steps ? "milliseconds" : "seconds";
  chart.logarithmic_x = true;
  chart.y_low = 0.0;
  for (const Row& row : rows) {
    if (!steps && row.batch != rows.front().batch) continue;  // the prompts are the same
    const std::string name = steps && row.batch > 1
                                 ? fmt::format("{}, {} sequences", row.method, row.batch)
                                 : row.method;
    auto line = std::find_if(chart.series.begin(), chart.series.end(),
                             [&](const Series& series) { return series.name == name; });
    if (line == chart.series.end()) {
      chart.series.push_back({.name = name, .points = {}, .errors = {}, .group = {}});
      line = std::prev(chart.series.end());
    }
    const std::pair<double, double> point(static_cast<double>(row.context),
                                          steps ? 1e3 * row.step : row.prefill);
    // A context that is listed twice warms up at first.
    if (!line->points.empty() && line->points.back().first == point.first) line->points.pop_back();
    line->points.push_back(point);
  }
  return chart;
}

/// Where the time of one prefill goes, by operation: printed and, a row each, added to `records`.
void print_profile(Engine& engine, const Ceilings& ceilings, const MethodChoice& method,
                   std::int64_t context, std::int64_t warmup, Json& records) {
  const std::vector<TokenId> prompt = random_prompt(context, engine.info().vocab_size);
  for (std::int64_t i = 0; i < warmup; ++i) engine.start(method).append(prompt);
  Session session = engine.start(method);
  const auto rows = profile(engine, [&] { session.append(prompt); });
  double total = 0.0;
  for (const OperationTime& r : rows) total += r.seconds;
  Table table({"operation", "calls", "ms", "share", "GFLOP/s", "GB/s", "of ceiling"},
              {false, true, true, true, true, true, true});
  for (const OperationTime& r : rows) {
    const double peak = r.name == "attention" ? ceilings.attention_flops : ceilings.gemm_flops;
    const double floor = std::max(r.flops / peak, r.bytes / ceilings.memory_bytes);
    table.add({r.name, fmt::format("{}", r.calls), fmt::format("{:.1f}", 1e3 * r.seconds),
               fmt::format("{:.1f} %", 100 * r.seconds / total),
               r.flops > 0 ? fmt::format("{:.1f}", r.flops / r.seconds / 1e9) : "",
               fmt::format("{:.2f}", r.bytes / r.seconds / 1e9),
               fmt::format("{:.1f} %", 100 * floor / r.seconds)});
    records.push_back({{"context", context},
                       {"method", method.name},
                       {"operation", r.name},
                       {"calls", r.calls},
                       {"seconds", r.seconds},
                       {"flops", r.flops},
                       {"bytes", r.bytes},
                       {"of_ceiling", floor / r.seconds}});
  }
  fmt::print("prefill of {} tokens, {}: {:.3f} s in operations, {:.3f} s in all\n{}\n", context,
             method.name, total, session.report().prefill_seconds, table.text());
}

/// What is given and would change nothing is a mistake.
void refuse_unused(What what, const Arguments& given) {
  struct Unused {
    What what;
    const char *name, *reason;
  };
  static constexpr Unused unused[] = {
      {What::prefill, "n", "decodes nothing"},
      {What::prefill, "batch", "runs one prompt at a time"},
      {What::decode, "repeats", "takes the median of -n steps"},
      {What::kernels, "n", "decodes nothing"},
      {What::kernels, "batch", "runs one prompt at a time"},
      {What::kernels, "repeats", "shows one prefill, the last of --warmup + 1"},
      {What::kernels, "plot", "shows operations; take --json or --csv, or bench prefill --plot"},
  };
  for (const Unused& u : unused) {
    if (u.what != what || !given.has(u.name)) continue;
    throw Error(
        fmt::format("bench {} has no {}: it {}", given.words.front(), dashed(u.name), u.reason));
  }
}

What parse_what(const std::vector<std::string>& words) {
  if (words.empty() || words == std::vector<std::string>{"e2e"}) return What::both;
  if (words == std::vector<std::string>{"prefill"}) return What::prefill;
  if (words == std::vector<std::string>{"decode"}) return What::decode;
  if (words == std::vector<std::string>{"kernels"}) return What::kernels;
  throw Error(fmt::format("fastkv bench knows prefill, decode, e2e and kernels, not '{}'",
                          fmt::join(words, " ")));
}

int run(std::span<const std::string> arguments) {
  BenchOptions o;
  OptionValues method_options;
  const Arguments given = read_arguments(arguments, o, "bench", &method_options);
  const What what = parse_what(given.words);
  refuse_unused(what, given);
  const std::vector<std::int64_t> contexts = split_numbers(o.context, "context");
  const std::vector<std::int64_t> batches = split_numbers(o.batch, "batch");
  check_distinct({{"json", o.json}, {"csv", o.csv}, {"plot", o.plot}});
  for (const std::string& file : {o.json, o.csv}) {
    if (!file.empty()) check_writable(file);
  }
  if (!o.plot.empty()) check_picture("plot", o.plot);
  use_bundled_model(o.engine);
  if (o.engine.max_positions == 0 && !o.engine.random_weights.empty()) {
    // Room to decode behind the longest prompt; nobody reads what random weights say.
    o.engine.max_positions =
        *std::max_element(contexts.begin(), contexts.end()) + o.warmup + o.tokens + 2;
  }
  Engine engine = [&] {
    ProgressBar bar("load");
    return Engine(o.engine, bar.callback());
  }();

  std::vector<MethodChoice> methods;
  const std::vector<MethodInfo> known = engine.methods();
  for (const std::string& name : o.method == "all" ? std::vector<std::string>{} : split(o.method)) {
    const auto info = std::find_if(known.begin(), known.end(),
                                   [&](const MethodInfo& m) { return m.name == name; });
    methods.push_back(info == known.end() ? MethodChoice{name, {}} : choose(*info, method_options));
  }
  if (o.method == "all") {
    for (const MethodInfo& info : known) methods.push_back(choose(info, method_options));
  }
  for (const auto& [name, value] : method_options) {
    const bool used = std::any_of(methods.begin(), methods.end(),
                                  [&](const MethodChoice& m) { return m.options.contains(name); });
    if (!used)
      throw Error(fmt::format("none of the methods {} has an option --{}", o.method, name));
  }
  for (const MethodChoice& method : methods)
    engine.start(method);  // refuses bad choices before the work
  const bool decodes = what == What::both || what == What::decode;
  const std::int64_t longest =
      *std::max_element(contexts.begin(), contexts.end()) + (decodes ? o.warmup + o.tokens + 2 : 0);
  if (longest > engine.info().max_positions) {
    throw Error(fmt::format(
        "the longest prompt{} needs {} positions, but the model has {}; take a shorter --context, "
        "or --max-positions {}",
        decodes ? " with what is decoded behind it" : "", longest, engine.info().max_positions,
        longest));
  }

  Bench bench(o, engine, what);
  fmt::print(
      "{}\n{}, {}\nceilings in this run: GEMM {:.1f} GFLOP/s, attention {:.1f} GFLOP/s, memory "
      "{:.2f} GB/s\n\n",
      engine.info().name, engine.info().device, engine.info().dtype,
      bench.ceilings().gemm_flops / 1e9, bench.ceilings().attention_flops / 1e9,
      bench.ceilings().memory_bytes / 1e9);
  std::vector<Row> rows;
  Json records = Json::array();
  if (what == What::kernels) {
    for (const std::int64_t context : contexts) {
      for (const MethodChoice& method : methods)
        print_profile(engine, bench.ceilings(), method, context, o.warmup, records);
    }
  } else {
    try {
      for (const std::int64_t context : contexts) {
        for (const std::int64_t batch : batches) {
          for (const MethodChoice& method : methods) {
            ProgressBar bar(fmt::format("{} tokens, batch {}, {}", context, batch, method.name));
            rows.push_back(bench.measure(method, context, batch));
            records.push_back(to_json(rows.back()));
          }
        }
      }
    } catch (...) {  // memory may run out late; what was measured is shown, files are not written
      if (!rows.empty()) fmt::print("{}", to_table(rows, what).text());
      throw;
    }
    fmt::print("{}", to_table(rows, what).text());
  }

  const std::time_t now = std::time(nullptr);
  Json result = {{"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
                 {"command", fmt::format("fastkv bench {}", fmt::join(arguments, " "))},
                 {"model", engine.info().name},
                 {"device", engine.info().device},
                 {"dtype", engine.info().dtype},
                 {"gemm_flops", bench.ceilings().gemm_flops},
                 {"attention_flops", bench.ceilings().attention_flops},
                 {"memory_bytes_per_second", bench.ceilings().memory_bytes},
                 {"repeats", what == What::kernels ? 1 : o.repeats},
                 {"rows", records}};
  if (!o.json.empty()) write_file(o.json, result.dump(1) + "\n");
  if (!o.csv.empty()) write_file(o.csv, to_csv(records));
  if (!o.plot.empty()) write_picture(o.plot, to_chart(rows, what, engine.info()));
  return 0;
}

}  // namespace

Command bench_command() {
  return {
      .name = "bench",
      .summary = "Times prefill and decode, against ceilings measured in the same run.",
      .usage = "[prefill | decode | e2e | kernels] [options]",
      .details =
          "linear/GEMM: FLOPs of the linear layers a second, of the GEMM ceiling. over floor: "
          "time over that of\n"
          "all FLOPs at their ceilings. bandwidth: weights and KV cache read a second, of the "
          "read ceiling. fit:\n"
          "sequences of this length for whose prompts there is memory. kernels: one prefill by "
          "operation, each\n"
          "beside the ceiling that its FLOPs or bytes come closest to. Lists have commas between. "
          "Method options\n"
          "go to the methods that have them.\n",
      .options = [] { return list_options(BenchOptions{}); },
      .method_options = true,
      .run = run};
}

}  // namespace fastkv::cli
