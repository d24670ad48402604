#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "eval/identity.h"
#include "eval/pictures.h"
#include "eval/prompt.h"
#include "eval/reference.h"
#include "eval/results.h"
#include "eval/summary.h"
#include "eval/sweep.h"
#include "fastkv/eval.h"
#include "fastkv/write_file.h"
#include "methods/method.h"
#include "model/config.h"
#include "tasks/benchmark.h"

namespace fastkv {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Shard {
  std::int64_t index = 1, count = 1;
  bool has(std::int64_t ordinal) const { return ordinal % count == index - 1; }
};

Shard parse_shard(const std::string& text) {
  if (text.empty()) return {};
  const auto slash = text.find('/');
  const auto number = [&](const std::string& digits) -> std::int64_t {
    const bool good = !digits.empty() && digits.size() < 7 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
    return good ? std::stoll(digits) : 0;
  };
  Shard shard;
  shard.index = slash == std::string::npos ? 0 : number(text.substr(0, slash));
  shard.count = slash == std::string::npos ? 0 : number(text.substr(slash + 1));
  if (shard.index < 1 || shard.index > shard.count) {
    fail("--shard takes part and number of parts, e.g. 1/4 to 4/4, not '{}'", text);
  }
  return shard;
}

/// The samples of one task and context that this run is about.
struct Portion {
  std::string task;
  std::int64_t context = 0;
  std::vector<std::string> ids;
};

struct Configuration {
  MethodChoice choice;
  std::string options;  // every option, as JSON with sorted keys
};

/// What the protocol changes in a method's options.
MethodChoice under(Protocol protocol, MethodChoice choice) {
  // Where there is a choice, FastKV's scripts make it by query head.
  const std::vector<OptionInfo> known = find_method(choice.name).options({});
  const bool has_choice = std::any_of(known.begin(), known.end(), [](const OptionInfo& option) {
    return option.name == "granularity";
  });
  if (protocol == Protocol::reference && has_choice)
    choice.options.emplace("granularity", "query-head");
  return choice;
}

/// Throws Error for methods, options and values that the model's methods do not take.
void check_methods(const std::string& methods, const OptionValues& values, Protocol protocol,
                   const std::string& model, const ModelConfig& config) {
  const ModelShape shape{config.layers, config.hidden_size, config.query_heads, config.kv_heads};
  for (const MethodChoice& choice : sweep(methods, values, list_methods(model)))
    find_method(choice.name).make(under(protocol, choice).options, shape);
}

/// Throws Error for prompts of a length that was asked for and that the model does not take: cut, a
/// needle may be gone from them.
void check_contexts(const std::vector<std::int64_t>& contexts, std::int64_t positions) {
  for (const std::int64_t context : contexts) {
    if (context <= positions) continue;
    fail(
        "--context {} is above the model's {} positions; take shorter prompts, cut them "
        "(--max-length {}), or raise --max-positions",
        context, positions, positions);
  }
}

/// Every option of the benchmark with its value.
OptionValues all_options(const std::string& benchmark, const OptionValues& given) {
  OptionValues all;
  for (const BenchmarkInfo& info : list_benchmarks()) {
    if (info.name != benchmark) continue;
    for (const OptionInfo& option : info.options) all[option.name] = option.fallback;
  }
  for (const auto& [name, value] : given) all[name] = value;
  return all;
}

void make_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail("the directory {} cannot be made: {}", directory.string(), error.message());
}

EvalSummary write_summary(const std::vector<fs::path>& files, const std::string& benchmark,
                          const fs::path& out) {
  std::vector<ResultFile> read;
  for (const fs::path& file : files) {
    read.push_back(read_results(file));
    if (read.back().whole_bytes == 0) read.pop_back();  // killed at its very beginning
  }
  if (read.empty()) fail("there are no results of {} to summarise", benchmark);
  const RunSetting& setting = read.front().setting;
  const OptionValues options(setting.benchmark_options.begin(), setting.benchmark_options.end());
  const Summary summary = summarise(std::move(read), *make_benchmark(benchmark, options));

  EvalSummary done{to_markdown(summary), {}, summary.notes, summary.issues};
  const auto write = [&](const std::string& name, const std::string& bytes) {
    write_file(out / name, bytes);
    done.files.push_back((out / name).string());
  };
  write(benchmark + ".md", done.markdown);
  write(benchmark + ".scores.csv", scores_csv(summary));
  write(benchmark + ".costs.csv", costs_csv(summary));
  write(benchmark + ".json", to_json(summary));
  const std::vector<HeatMap> maps = needle_maps(summary);
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const std::string name = benchmark + "." + file_name_of(summary.configurations[i].label);
    write(name + ".svg", draw_svg(maps[i]));
    write(name + ".png", draw_png(maps[i]));
  }
  if (!maps.empty()) write(benchmark + ".html", needle_page(summary, maps));
  if (const auto chart = context_chart(summary)) {
    write(benchmark + ".contexts.svg", draw_svg(*chart));
    write(benchmark + ".contexts.png", draw_png(*chart));
  }
  return done;
}

}  // namespace

struct Evaluation::State {
  std::string name;
  EvalOptions options;
  OptionValues method_values;
  Protocol protocol = Protocol::query_aware;
  ReferenceRules reference;  // of that protocol alone
  Shard shard;
  std::unique_ptr<Benchmark> benchmark;
  std::unique_ptr<Text> text;
  Codec codec;
  RunSetting setting;
  std::vector<Portion> portions;
  std::vector<std::pair<std::string, std::string>> issues;  // task, what is wrong with a row
  std::set<std::string> done;                               // keys of results
  std::map<std::string, std::string> hashes;                // of samples, by their keys
  std::vector<std::string> notes;
  std::unique_ptr<ResultWriter> writer;

  void plan(const std::string& task, std::int64_t context);
  void open_results();
  std::vector<Configuration> configurations(Engine& engine) const;
  std::string key_of(const Configuration& c, const Portion& p, const std::string& id) const;
  std::string unchanged_hash(const Sample& sample, std::int64_t context);
  PromptLimits limits(const Sample& sample, const Configuration& c, const ModelInfo& info) const;
  std::int64_t answer_tokens(const Sample& sample) const;
  SampleResult answer(Engine& engine, const Configuration& c, const Sample& sample) const;
};

/// Walks the samples without making them: which there are, and what is wrong with the data.
void Evaluation::State::plan(const std::string& task, std::int64_t context) {
  Portion portion{task, context, {}};
  std::vector<Issue> found;
  std::int64_t ordinal = 0;
  // Where data is read, one sample is made and scored, so that what scoring needs is known to be
  // there before hours of work.
  bool tried = context != 0;
  SampleRequest request{.task = task, .context = context, .limit = options.limit, .skip = {}};
  request.skip = [&](const std::string& id) {
    if (shard.has(ordinal++)) portion.ids.push_back(id);
    return std::exchange(tried, true);
  };
  const auto take = [&](const Sample& sample) {
    benchmark->score(sample, "");
    return true;
  };
  benchmark->samples(request, codec, take, found);
  for (const Issue& issue : found) issues.emplace_back(task, to_string(issue));
  if (ordinal == 0) notes.push_back(fmt::format("{} has no samples", task));
  portions.push_back(std::move(portion));
}

/// Takes what is there as done, and begins or goes on with this run's own file.
void Evaluation::State::open_results() {
  const fs::path out = options.out;
  make_directory(out);
  const std::string own = shard.count == 1
                              ? name + ".jsonl"
                              : fmt::format("{}.{}-of-{}.jsonl", name, shard.index, shard.count);
  ResultFile found;
  writer = std::make_unique<ResultWriter>(out / own, setting, found);
  for (const auto& [task, issue] : issues) {
    if (std::find(found.issues.begin(), found.issues.end(), issue) != found.issues.end()) continue;
    writer->add_issue(task, issue);
    found.issues.push_back(issue);
  }
  for (const auto& [issue, task] : found.task_of_issue) {
    const bool planned = std::any_of(portions.begin(), portions.end(),
                                     [&](const Portion& p) { return p.task == task; });
    const bool still = std::any_of(issues.begin(), issues.end(),
                                   [&](const auto& now) { return now.second == issue; });
    if (planned && !still) writer->clear_issue(issue);
  }
  std::vector<ResultFile> all = {std::move(found)};
  for (const fs::path& path : find_result_files(out, name)) {
    if (path.filename() == own) continue;
    all.push_back(read_results(path));
    if (all.back().whole_bytes == 0) continue;
    const std::string other = difference(all.back().setting, setting);
    if (!other.empty()) fail("{} has results of {}; choose another --out", path.string(), other);
  }
  for (const ResultFile& file : all) {
    for (const SampleResult& r : file.results) {
      done.insert(r.key());
      if (!r.sample.empty()) hashes.emplace(r.sample_key(), r.sample);
    }
  }
  notes.insert(notes.end(), all.front().notes.begin(), all.front().notes.end());
}

std::vector<Configuration> Evaluation::State::configurations(Engine& engine) const {
  const std::vector<MethodInfo> known = engine.methods();
  std::vector<Configuration> all;
  for (MethodChoice& choice : sweep(options.method, method_values, known)) {
    choice = under(protocol, std::move(choice));
    const std::string canonical = Json::parse(engine.start(choice).report().options).dump();
    const bool again = std::any_of(all.begin(), all.end(), [&](const Configuration& c) {
      return c.choice.name == choice.name && c.options == canonical;
    });
    if (!again) all.push_back({std::move(choice), canonical});
  }
  return all;
}

std::string Evaluation::State::key_of(const Configuration& c, const Portion& p,
                                      const std::string& id) const {
  return key_of_result(c.choice.name, c.options, key_of_sample(p.task, p.context, id));
}

/// The sample's hash. Methods are compared on the same samples: throws Error where other answers
/// are to another text.
std::string Evaluation::State::unchanged_hash(const Sample& sample, std::int64_t context) {
  const std::string hash = sample_hash(sample);
  const std::string key = key_of_sample(sample.task, context, sample.id);
  if (hashes.emplace(key, hash).first->second == hash) return hash;
  fail(
      "sample {} of {} is not the one that {} has answers to: the data has changed; choose another "
      "--out",
      sample.id, sample.task, options.out);
}

std::int64_t Evaluation::State::answer_tokens(const Sample& sample) const {
  return reference.answer_tokens > 0 ? reference.answer_tokens : sample.max_new_tokens;
}

PromptLimits Evaluation::State::limits(const Sample& sample, const Configuration& c,
                                       const ModelInfo& info) const {
  PromptLimits limits{options.max_length, info.max_positions - answer_tokens(sample)};
  if (protocol != Protocol::reference) return limits;
  std::int64_t most = find_method(c.choice.name).reference_prompt;
  if (most == 0) most = reference.prompt_tokens;
  if (most > 0) limits.text = limits.text > 0 ? std::min(limits.text, most) : most;
  return limits;
}

SampleResult Evaluation::State::answer(Engine& engine, const Configuration& c,
                                       const Sample& sample) const {
  const ModelInfo& info = engine.info();
  const Prompt prompt = make_prompt(sample, *text, protocol, limits(sample, c, info));
  const auto start = Clock::now();
  Session session = engine.start(c.choice);
  session.append(prompt.ids);
  if (!prompt.later.empty()) session.append(prompt.later);
  GenerateOptions generate;
  generate.max_tokens = answer_tokens(sample);
  if (protocol == Protocol::reference) generate.min_tokens = 1;
  if (!reference.end_ids.empty()) {
    generate.end_ids = reference.end_ids;
    // A stop text is one token there, which other tokens that have it in them are not.
    for (const std::string& stop : sample.stop)
      generate.end_ids.push_back(text->encode(stop, /*bos=*/false).back());
  } else {
    generate.stop = sample.stop;
  }
  const Generation answer = session.generate(generate);

  const Report& report = session.report();
  SampleResult r;
  r.method = c.choice.name;
  r.options = c.options;
  r.task = sample.task;
  r.id = sample.id;
  r.prediction = answer.text;
  r.score = benchmark->score(sample, answer.text);
  r.length = sample.length;
  r.attributes = sample.attributes;
  r.truncated = prompt.truncated;
  r.prompt_tokens = report.prompt_tokens;
  r.later_tokens = static_cast<std::int64_t>(prompt.later.size());
  r.kept = report.kept_tokens;
  r.heads = report.cached_heads;
  r.kv_bytes = report.kv_bytes;
  r.kv_bytes_full = report.kv_bytes_full;
  r.entry_bytes = info.kv_bytes_per_token / static_cast<std::size_t>(info.layers * info.kv_heads);
  r.finish = name_of(answer.reason);
  r.generated_tokens = report.generated_tokens;
  r.device = info.device;
  r.prefill_seconds = report.prefill_seconds;
  r.selection_seconds = report.selection_seconds;
  r.first_token_seconds = report.first_token_seconds;
  r.decode_seconds = report.decode_seconds;
  r.seconds = seconds_since(start);
  r.peak_memory = report.peak_memory;
  return r;
}

Evaluation::Evaluation(const std::string& benchmark, const EvalOptions& options,
                       const EngineOptions& engine, const OptionValues& benchmark_options,
                       const OptionValues& methods)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.name = benchmark;
  s.options = options;
  s.method_values = methods;
  s.protocol = parse_protocol(options.protocol);
  s.shard = parse_shard(options.shard);
  OptionValues own = benchmark_options;
  if (s.protocol == Protocol::reference) own.merge(reference_options(benchmark));
  s.benchmark = make_benchmark(benchmark, own);
  std::vector<std::string> tasks;
  if (!options.task.empty()) tasks = split_list(options.task);
  for (const std::string& task : tasks) find_task(*s.benchmark, task);
  if (tasks.empty()) {
    for (const TaskInfo& info : s.benchmark->tasks()) tasks.push_back(info.name);
  }
  if (engine.model.empty()) {
    fail("benchmarks are text, and random weights have no tokenizer; name a --model");
  }
  const ModelConfig config = load_config(engine.model);
  check_methods(options.method, methods, s.protocol, engine.model, config);
  if (options.max_length == 0) {
    check_contexts(s.benchmark->contexts(),
                   engine.max_positions > 0 ? engine.max_positions : config.max_positions);
  }
  if (!Text::present_in(engine.model)) {
    fail("benchmarks are text, and {} has no tokenizer; choose another --model",
         model_name(engine));
  }
  make_directory(options.out);
  s.text = std::make_unique<Text>(engine.model);
  s.codec = make_codec(*s.text);
  if (s.protocol == Protocol::reference)
    s.reference = reference_rules(benchmark, engine.model, *s.text);

  RunSetting& r = s.setting;
  r.benchmark = benchmark;
  for (const auto& [name, value] : all_options(benchmark, own)) r.benchmark_options[name] = value;
  r.model = model_name(engine);
  r.model_hash = model_hash(engine);
  r.code_version = code_version();
  r.protocol = options.protocol;
  r.dtype = engine.dtype;
  const bool cpu = engine.device == "cpu" || list_devices().size() == 1;
  r.device_kind = cpu ? "cpu" : "cuda";
  r.max_length = options.max_length;
  r.max_positions = engine.max_positions;
  r.no_sliding_window = engine.no_sliding_window;
  r.chat_template = s.text->has_chat_template();

  for (const std::string& task : tasks) {
    for (const std::int64_t context : s.benchmark->contexts()) s.plan(task, context);
  }
  s.open_results();
}

Evaluation::~Evaluation() = default;
Evaluation::Evaluation(Evaluation&&) noexcept = default;

std::string Evaluation::describe() const {
  const State& s = *state_;
  std::int64_t samples = 0;
  for (const Portion& p : s.portions) samples += static_cast<std::int64_t>(p.ids.size());
  std::string text = fmt::format(
      "{}, {} samples{}\nmodel     {}, {}, {}\ncode      {}\nprotocol  {}\nresults   {} ({} "
      "answers "
      "are there)\n",
      s.name, samples,
      s.shard.count > 1 ? fmt::format(" (part {} of {})", s.shard.index, s.shard.count) : "",
      s.setting.model, s.setting.dtype, s.setting.model_hash.substr(0, 16), s.setting.code_version,
      fastkv::describe(s.protocol), s.options.out, s.done.size());
  if (!s.setting.chat_template) text += "the model has no chat template: prompts as they are\n";
  for (const std::string& note : s.notes) text += note + "\n";
  return text;
}

void Evaluation::run(Engine& engine, const std::function<void(const EvalProgress&)>& progress) {
  State& s = *state_;
  const std::vector<Configuration> configurations = s.configurations(engine);
  const auto weight = [](const Portion& p) {
    return static_cast<double>(std::max<std::int64_t>(p.context, 1));
  };
  double total = 0.0, finished = 0.0;
  for (const Portion& p : s.portions) {
    for (const std::string& id : p.ids) {
      for (const Configuration& c : configurations) {
        if (!s.done.contains(s.key_of(c, p, id))) total += weight(p);
      }
    }
  }
  const auto start = Clock::now();
  for (const Portion& p : s.portions) {
    std::set<std::string> wanted;
    for (const std::string& id : p.ids) {
      for (const Configuration& c : configurations) {
        if (!s.done.contains(s.key_of(c, p, id))) wanted.insert(id);
      }
    }
    if (wanted.empty()) continue;
    const auto take = [&](Sample sample) {
      sample.chat = sample.chat && !s.reference.plain;
      const std::string hash = s.unchanged_hash(sample, p.context);
      for (const Configuration& c : configurations) {
        const std::string key = s.key_of(c, p, sample.id);
        if (s.done.contains(key)) continue;
        if (progress) {
          const double share = total > 0 ? finished / total : 0.0;
          progress({share, share > 0 ? seconds_since(start) * (1 - share) / share : -1.0,
                    fmt::format("{} {} {}", p.task, sample.id, c.choice.name)});
        }
        SampleResult result = s.answer(engine, c, sample);
        result.context = p.context;
        result.sample = hash;
        s.writer->add(result);
        s.done.insert(key);
        finished += weight(p);
      }
      return true;
    };
    std::vector<Issue> known;  // since the plan was made
    SampleRequest request{
        .task = p.task, .context = p.context, .limit = s.options.limit, .skip = {}};
    request.skip = [&](const std::string& id) { return !wanted.contains(id); };
    s.benchmark->samples(request, s.codec, take, known);
  }
}

EvalSummary Evaluation::summarise() const {
  return write_summary(find_result_files(state_->options.out, state_->name), state_->name,
                       state_->options.out);
}

EvalSummary merge_results(const std::string& benchmark, const std::vector<std::string>& directories,
                          const std::string& out) {
  make_benchmark(benchmark, {});  // refuses an unknown name
  std::vector<fs::path> files;
  for (const std::string& directory : directories) {
    const std::vector<fs::path> found = find_result_files(directory, benchmark);
    if (found.empty()) fail("there are no results of {} in {}", benchmark, directory);
    files.insert(files.end(), found.begin(), found.end());
  }
  make_directory(out);
  return write_summary(files, benchmark, out);
}

std::vector<EvalBenchmark> list_eval_benchmarks() {
  std::vector<EvalBenchmark> all;
  for (const BenchmarkInfo& info : list_benchmarks())
    all.push_back({info.name, info.summary, info.options});
  return all;
}

}  // namespace fastkv
