#include "eval/results.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/error.h"

namespace fastkv {
namespace fs = std::filesystem;
namespace {

constexpr int format_version = 1;

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::map<std::string, std::string> get_texts(const Json& json, std::string_view key,
                                             std::string_view where) {
  std::map<std::string, std::string> texts;
  for (const auto& [name, value] : get_object(json, key, where).items())
    texts[name] = to_text(value, name, where);
  return texts;
}

std::vector<std::int64_t> get_ints(const Json& json, std::string_view key, std::string_view where) {
  std::vector<std::int64_t> values;
  for (const Json& value : get_array(json, key, where)) values.push_back(to_int(value, key, where));
  return values;
}

std::size_t get_size(const Json& json, std::string_view key, std::string_view where) {
  const std::int64_t value = get_int(json, key, where);
  if (value < 0) fail("{}: \"{}\" must not be below 0", where, key);
  return static_cast<std::size_t>(value);
}

RunSetting parse_setting(const Json& line, std::string_view where) {
  const Json& json = get_object(line, "run", where);
  if (get_int(json, "format", where) != format_version) {
    fail("{} was written by another version of the program; choose another directory", where);
  }
  RunSetting s;
  s.benchmark = get_string(json, "benchmark", where);
  s.benchmark_options = get_texts(json, "benchmark_options", where);
  s.model = get_string(json, "model", where);
  s.model_hash = get_string(json, "model_hash", where);
  s.code_version = get_string(json, "code_version", where);
  s.protocol = get_string(json, "protocol", where);
  s.dtype = get_string(json, "dtype", where);
  s.device_kind = get_string(json, "device", where);
  s.max_length = get_int(json, "max_length", where);
  s.max_positions = get_int(json, "max_positions", where);
  s.no_sliding_window = get_bool(json, "no_sliding_window", where);
  s.chat_template = get_bool(json, "chat_template", where);
  return s;
}

SampleResult parse_result(const Json& json, std::string_view where) {
  SampleResult r;
  r.method = get_string(json, "method", where);
  r.options = get_object(json, "options", where).dump();
  r.task = get_string(json, "task", where);
  r.context = get_int(json, "context", where);
  r.id = get_string(json, "id", where);
  r.sample = find_string(json, "sample", where).value_or("");
  r.prediction = get_string(json, "prediction", where);
  r.score = get_number(json, "score", where);
  r.length = get_int(json, "length", where);
  for (const auto& [name, value] : get_object(json, "attributes", where).items()) {
    if (!value.is_number()) fail("{}: \"{}\" must be a number", where, name);
    r.attributes[name] = value.get<double>();
  }
  r.truncated = get_bool(json, "truncated", where);
  r.prompt_tokens = get_int(json, "prompt_tokens", where);
  r.later_tokens = get_int(json, "later_tokens", where);
  r.kept = get_ints(json, "kept", where);
  r.heads = get_ints(json, "heads", where);
  if (r.kept.size() != r.heads.size()) fail("{}: \"kept\" and \"heads\" must be as long", where);
  r.kv_bytes = get_size(json, "kv_bytes", where);
  r.kv_bytes_full = get_size(json, "kv_bytes_full", where);
  r.entry_bytes = get_size(json, "entry_bytes", where);
  r.finish = get_string(json, "finish", where);
  r.generated_tokens = get_int(json, "generated_tokens", where);
  r.device = get_string(json, "device", where);
  r.prefill_seconds = get_number(json, "prefill_seconds", where);
  r.selection_seconds = get_number(json, "selection_seconds", where);
  r.first_token_seconds = get_number(json, "first_token_seconds", where);
  r.decode_seconds = get_number(json, "decode_seconds", where);
  r.seconds = get_number(json, "seconds", where);
  r.peak_memory = get_size(json, "peak_memory", where);
  return r;
}

/// Those that say which samples there are, not what a sample is: a sample's id has them.
bool chooses_samples(const std::string& option) {
  return option == "context" || option == "depths" || option == "samples";
}

}  // namespace

std::string RunSetting::json() const {
  nlohmann::ordered_json json;
  json["run"] = {{"format", format_version},
                 {"benchmark", benchmark},
                 {"benchmark_options", benchmark_options},
                 {"model", model},
                 {"model_hash", model_hash},
                 {"code_version", code_version},
                 {"protocol", protocol},
                 {"dtype", dtype},
                 {"device", device_kind},
                 {"max_length", max_length},
                 {"max_positions", max_positions},
                 {"no_sliding_window", no_sliding_window},
                 {"chat_template", chat_template}};
  return dump(json);
}

std::string difference(const RunSetting& a, const RunSetting& b) {
  const auto differ = [](std::string_view what, const auto& x, const auto& y) {
    return x == y ? std::string() : fmt::format("another {} ({}, now {})", what, x, y);
  };
  std::string found;
  const auto compare = [&](std::string_view what, const auto& x, const auto& y) {
    if (found.empty()) found = differ(what, x, y);
  };
  compare("benchmark", a.benchmark, b.benchmark);
  compare("model", a.model_hash.substr(0, 12), b.model_hash.substr(0, 12));
  compare("version of the program", a.code_version, b.code_version);
  compare("protocol", a.protocol, b.protocol);
  compare("--max-length", a.max_length, b.max_length);
  compare("--max-positions", a.max_positions, b.max_positions);
  compare("--dtype", a.dtype, b.dtype);
  compare("kind of device", a.device_kind, b.device_kind);
  compare("--no-sliding-window", a.no_sliding_window, b.no_sliding_window);
  for (const auto& [name, value] : a.benchmark_options) {
    const auto other = b.benchmark_options.find(name);
    if (chooses_samples(name) || other == b.benchmark_options.end()) continue;
    compare("--" + name, value, other->second);
  }
  return found;
}

std::string key_of_sample(const std::string& task, std::int64_t context, const std::string& id) {
  return fmt::format("{}\n{}\n{}", task, context, id);
}

std::string key_of_result(const std::string& method, const std::string& options,
                          const std::string& sample_key) {
  return fmt::format("{}\n{}\n{}", method, options, sample_key);
}

std::string SampleResult::sample_key() const { return key_of_sample(task, context, id); }

std::string SampleResult::key() const { return key_of_result(method, options, sample_key()); }

std::string SampleResult::json() const {
  nlohmann::ordered_json json;
  json["method"] = method;
  json["options"] = nlohmann::ordered_json::parse(options);
  json["task"] = task;
  json["context"] = context;
  json["id"] = id;
  json["sample"] = sample;
  json["prediction"] = prediction;
  json["score"] = score;
  json["length"] = length;
  json["attributes"] = attributes;
  json["truncated"] = truncated;
  json["prompt_tokens"] = prompt_tokens;
  json["later_tokens"] = later_tokens;
  json["kept"] = kept;
  json["heads"] = heads;
  json["kv_bytes"] = kv_bytes;
  json["kv_bytes_full"] = kv_bytes_full;
  json["entry_bytes"] = entry_bytes;
  json["finish"] = finish;
  json["generated_tokens"] = generated_tokens;
  json["device"] = device;
  json["prefill_seconds"] = prefill_seconds;
  json["selection_seconds"] = selection_seconds;
  json["first_token_seconds"] = first_token_seconds;
  json["decode_seconds"] = decode_seconds;
  json["seconds"] = seconds;
  json["peak_memory"] = peak_memory;
  return dump(json);
}

ResultFile read_results(const fs::path& path) {
  const std::string text = read_text_file(path);
  ResultFile file;
  std::size_t number = 0;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string where = fmt::format("{}:{}", path.string(), ++number);
    const Json json = parse_json(std::string_view(text).substr(begin, end - begin), where);
    if (!json.is_object()) fail("{} must be a JSON object", where);
    if (number == 1) {
      file.setting = parse_setting(json, where);
    } else if (json.contains("issue")) {
      file.issues.push_back(get_string(json, "issue", where));
      if (const auto task = find_string(json, "task", where))
        file.task_of_issue[file.issues.back()] = *task;
    } else if (json.contains("mended")) {
      const std::string issue = get_string(json, "mended", where);
      std::erase(file.issues, issue);
      file.task_of_issue.erase(issue);
    } else {
      file.results.push_back(parse_result(json, where));
    }
  }
  file.whole_bytes = begin;
  if (begin < text.size()) {
    file.notes.push_back(
        fmt::format("{}: the last line was cut off ({} bytes), as when a run is killed; its sample "
                    "does not count",
                    path.string(), text.size() - begin));
  }
  if (number == 0 && !text.empty()) file.notes.back() += " and the file begins anew";
  return file;
}

std::vector<fs::path> find_result_files(const fs::path& directory, const std::string& benchmark) {
  const std::regex pattern(benchmark + R"((\.\d+-of-\d+)?\.jsonl)");
  std::vector<fs::path> files;
  if (!fs::is_directory(directory)) return files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (std::regex_match(entry.path().filename().string(), pattern)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

ResultWriter::ResultWriter(const fs::path& path, const RunSetting& setting, ResultFile& found)
    : path_(path.string()) {
  const bool is_new = !fs::exists(path);
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) {
    fail("{} cannot be written; check that its folder is writable", path_);
  }
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    ::close(file_);
    fail("{} is in use by another run; wait for it, or choose another --out", path_);
  }
  try {
    if (!is_new) found = read_results(path);
    if (found.whole_bytes > 0) {
      const std::string other = difference(found.setting, setting);
      if (!other.empty() && !found.results.empty()) {
        fail("{} has results of {}; choose another --out, or move the file away", path_, other);
      }
      if (!other.empty()) {  // of a run that failed before its first answer
        if (::ftruncate(file_, 0) != 0) fail("{} cannot be written; check the disk", path_);
        found = {};
      }
    }
    if (!found.notes.empty() && ::ftruncate(file_, static_cast<off_t>(found.whole_bytes)) != 0) {
      fail("{} ends in half a line that cannot be removed; check the disk", path_);
    }
    if (found.whole_bytes == 0) append(setting.json());
  } catch (...) {
    ::close(file_);
    throw;
  }
}

ResultWriter::~ResultWriter() { ::close(file_); }

void ResultWriter::append(const std::string& line) {
  const std::string whole = line + "\n";
  std::size_t done = 0;
  while (done < whole.size()) {
    const ssize_t n = ::write(file_, whole.data() + done, whole.size() - done);
    if (n < 0) fail("{} cannot be written; check that the disk has room", path_);
    done += static_cast<std::size_t>(n);
  }
}

void ResultWriter::add(const SampleResult& result) { append(result.json()); }

void ResultWriter::add_issue(const std::string& task, const std::string& issue) {
  append(dump({{"issue", issue}, {"task", task}}));
}

void ResultWriter::clear_issue(const std::string& issue) { append(dump({{"mended", issue}})); }

}  // namespace fastkv
