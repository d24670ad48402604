#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/prompt.h"
#include "eval/summary.h"

// A summary as Markdown for people, CSV for spreadsheets, JSON for programs.

namespace fastkv {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string score_text(const Value& v) {
  return v.error ? fmt::format("{:.2f} ± {:.2f}", v.value, *v.error)
                 : fmt::format("{:.2f}", v.value);
}

const Value* find_figure(const CellSummary* cell, const std::string& name) {
  if (!cell) return nullptr;
  for (const auto& [figure, value] : cell->figures) {
    if (figure == name) return &value;
  }
  return nullptr;
}

std::string mebibytes(double bytes) { return fmt::format("{:.2f}", bytes / (1 << 20)); }

/// "812 (x6), 162 (x6)": runs of equal numbers.
std::string runs(const std::vector<double>& values) {
  std::string text;
  for (std::size_t i = 0; i < values.size();) {
    const auto value = std::llround(values[i]);
    std::size_t end = i;
    while (end < values.size() && std::llround(values[end]) == value) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", value);
    if (end - i > 1 && end - i < values.size()) text += fmt::format(" (x{})", end - i);
    i = end;
  }
  return text;
}

std::string context_text(std::int64_t context) {
  return context == 0 ? "as the data is" : fmt::format("{} tokens", context);
}

/// A Markdown table; numbers are right-aligned, names are not.
class Rows {
 public:
  Rows(std::vector<std::string> head, std::size_t names = 1) {
    add(head);
    text_ += "|";
    for (std::size_t i = 0; i < head.size(); ++i) text_ += i < names ? " --- |" : " ---: |";
    text_ += "\n";
  }
  void add(const std::vector<std::string>& cells) {
    text_ += "|";
    for (const std::string& cell : cells) text_ += " " + cell + " |";
    text_ += "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// The number of samples behind a column, where it is the same in every row; else 0.
std::int64_t common_samples(const std::vector<const Value*>& column) {
  std::int64_t samples = 0;
  for (const Value* value : column) {
    if (!value) continue;
    if (samples != 0 && value->samples != samples) return 0;
    samples = value->samples;
  }
  return samples;
}

/// A column of scores: its head says how many samples, or else each cell does.
struct Column {
  std::string head;
  std::vector<const Value*> values;
  bool average = false;

  std::string title() const {
    const std::int64_t samples = average ? 0 : common_samples(values);
    return samples > 0 ? fmt::format("{} (n={})", head, samples) : head;
  }
  std::string cell(std::size_t row) const {
    const Value* value = values[row];
    if (!value) return "-";
    const bool count = !average && common_samples(values) == 0;
    return score_text(*value) + (count ? fmt::format(" (n={})", value->samples) : "");
  }
};

std::string score_table(const Summary& s, const std::vector<Column>& columns) {
  std::vector<std::string> head = {"configuration"};
  for (const Column& column : columns) head.push_back(column.title());
  Rows rows(head);
  for (std::size_t i = 0; i < s.configurations.size(); ++i) {
    std::vector<std::string> cells = {s.configurations[i].label};
    for (const Column& column : columns) cells.push_back(column.cell(i));
    rows.add(cells);
  }
  return rows.text();
}

Column figure_column(const Summary& s, std::int64_t context, const FigureName& figure) {
  Column column{figure.name, {}, figure.average};
  for (std::size_t i = 0; i < s.configurations.size(); ++i)
    column.values.push_back(find_figure(s.find(i, context), figure.name));
  return column;
}

/// One task at several contexts is one table, otherwise each context has its own.
std::string score_tables(const Summary& s) {
  std::vector<Column> columns;
  if (s.figures.size() == 1 && s.contexts.size() > 1) {
    for (const std::int64_t context : s.contexts) {
      columns.push_back(figure_column(s, context, s.figures[0]));
      columns.back().head = fmt::format("{}", context);
    }
    columns.push_back({"all", {}, false});
    for (const ConfigurationSummary& c : s.configurations) columns.back().values.push_back(&c.all);
    return fmt::format("{}, by context in tokens:\n\n{}\n", s.figures[0].name,
                       score_table(s, columns));
  }
  std::string text;
  for (const std::int64_t context : s.contexts) {
    columns.clear();
    for (const FigureName& figure : s.figures) {
      columns.push_back(figure_column(s, context, figure));
      const auto& values = columns.back().values;
      if (std::none_of(values.begin(), values.end(), [](const Value* v) { return v; }))
        columns.pop_back();
    }
    if (context != 0) text += fmt::format("### {}\n\n", context_text(context));
    text += score_table(s, columns) + "\n";
  }
  return text;
}

std::string setting_table(const Summary& s) {
  const RunSetting& r = s.setting;
  Rows rows({"setting", ""}, 2);
  rows.add({"model", r.model});
  rows.add({"model hash", r.model_hash});
  rows.add({"code", r.code_version});
  rows.add({"protocol", describe(parse_protocol(r.protocol))});
  rows.add({"type", r.dtype + " on " + r.device_kind});
  rows.add({"chat template", r.chat_template ? "the model's" : "none: prompts as they are"});
  rows.add({"longest prompt",
            r.max_length > 0 ? fmt::format("{} tokens, then the middle is cut out", r.max_length)
                             : "what the model takes, then the middle is cut out"});
  for (const auto& [name, value] : r.benchmark_options) {
    // Lists of what to run do not say what has been run.
    if (value.empty() || name == "context" || name == "depths" || name == "samples") continue;
    std::string line = value;
    for (std::size_t at = 0; (at = line.find_first_of("\n|", at)) != line.npos; ++at)
      line[at] = ' ';
    rows.add({"--" + name, line});
  }
  rows.add({"answers", fmt::format("{}", s.results.size())});
  if (!s.issues.empty()) {
    rows.add({"rows of the data that could not be used", fmt::format("{}", s.issues.size())});
  }
  return rows.text();
}

std::string budget_table(const Summary& s) {
  Rows rows({"configuration", "context", "prompt tokens", "cut", "entries of a head, by layer",
             "KV MiB", "of full"});
  for (const CellSummary& c : s.cells) {
    rows.add({s.configurations[c.configuration].label,
              c.context == 0 ? "-" : fmt::format("{}", c.context),
              fmt::format("{:.0f}", c.prompt_tokens), fmt::format("{:.0f}", c.truncated),
              runs(c.kept), mebibytes(c.kv_bytes), fmt::format("{:.1f} %", 100 * c.kv_share)});
  }
  return rows.text();
}

std::string time_table(const Summary& s) {
  Rows rows({"configuration", "context", "samples", "prefill s", "selection s", "first token s",
             "decode tok/s", "all s", "peak MiB"});
  for (const CellSummary& c : s.cells) {
    rows.add({s.configurations[c.configuration].label,
              c.context == 0 ? "-" : fmt::format("{}", c.context), fmt::format("{}", c.samples),
              fmt::format("{:.3f}", c.prefill_seconds), fmt::format("{:.3f}", c.selection_seconds),
              fmt::format("{:.3f}", c.first_token_seconds),
              fmt::format("{:.1f}", c.decode_tokens_per_second), fmt::format("{:.1f}", c.seconds),
              mebibytes(static_cast<double>(c.peak_memory))});
  }
  return rows.text();
}

std::string devices(const Summary& s) {
  std::vector<std::string> names;
  for (const SampleResult& r : s.results) names.push_back(r.device);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : "; ") + name;
  return text;
}

/// A field of CSV.
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::string joined(const std::vector<double>& values) {
  std::string text;
  for (const double v : values) text += (text.empty() ? "" : ";") + fmt::format("{:.1f}", v);
  return text;
}

OrderedJson to_json(const Value& v) {
  return {{"value", v.value},
          {"standard_error", v.error ? OrderedJson(*v.error) : OrderedJson()},
          {"samples", v.samples}};
}

OrderedJson to_json(const CellSummary& c) {
  OrderedJson figures = OrderedJson::object();
  for (const auto& [name, value] : c.figures) figures[name] = to_json(value);
  return {{"context", c.context},
          {"samples", c.samples},
          {"scores", figures},
          {"prompt_tokens", c.prompt_tokens},
          {"truncated", c.truncated},
          {"entries_by_layer", c.kept},
          {"bytes_by_layer", c.layer_bytes},
          {"kv_bytes", c.kv_bytes},
          {"kv_share", c.kv_share},
          {"costs",
           {{"prefill_seconds", c.prefill_seconds},
            {"selection_seconds", c.selection_seconds},
            {"first_token_seconds", c.first_token_seconds},
            {"decode_tokens_per_second", c.decode_tokens_per_second},
            {"seconds", c.seconds},
            {"peak_memory", c.peak_memory}}}};
}

}  // namespace

std::string to_markdown(const Summary& s) {
  std::string text =
      fmt::format("# {}: {}\n\n{}\n", s.setting.benchmark, s.setting.model, setting_table(s));
  text +=
      "## Scores\n\n0 to 100; ± one standard error over samples; n: samples.\n\n" + score_tables(s);
  text +=
      "## Budget reached\n\nMeans over samples. Entries are those of one cached head after the " +
      std::string(s.setting.protocol == "query-agnostic" ? "context" : "prompt") +
      "; cut: prompts whose middle was cut out.\n\n" + budget_table(s);
  text += "\n## Time and memory\n\nMeans over samples on: " + devices(s) +
          ". The peak is that of the whole process until then.\n\n" + time_table(s);
  return text;
}

std::string scores_csv(const Summary& s) {
  std::string text = "configuration,method,options,context,figure,score,standard_error,samples\n";
  for (const CellSummary& c : s.cells) {
    const ConfigurationSummary& configuration = s.configurations[c.configuration];
    for (const auto& [name, value] : c.figures) {
      text += fmt::format("{},{},{},{},{},{:.2f},{},{}\n", quoted(configuration.label),
                          configuration.method, quoted(configuration.options), c.context,
                          quoted(name), value.value,
                          value.error ? fmt::format("{:.4f}", *value.error) : "", value.samples);
    }
  }
  return text;
}

std::string costs_csv(const Summary& s) {
  std::string text =
      "configuration,context,samples,prompt_tokens,truncated,kv_bytes,kv_share,entries_by_layer,"
      "bytes_by_layer,prefill_seconds,selection_seconds,first_token_seconds,"
      "decode_tokens_per_second,seconds,peak_memory\n";
  for (const CellSummary& c : s.cells) {
    text += fmt::format(
        "{},{},{},{:.1f},{:.0f},{:.0f},{:.6f},{},{},{:.4f},{:.4f},{:.4f},{:.2f},"
        "{:.2f},{}\n",
        quoted(s.configurations[c.configuration].label), c.context, c.samples, c.prompt_tokens,
        c.truncated, c.kv_bytes, c.kv_share, joined(c.kept), joined(c.layer_bytes),
        c.prefill_seconds, c.selection_seconds, c.first_token_seconds, c.decode_tokens_per_second,
        c.seconds, c.peak_memory);
  }
  return text;
}

std::string to_json(const Summary& s) {
  OrderedJson json = OrderedJson::parse(s.setting.json());
  json["answers"] = s.results.size();
  json["configurations"] = OrderedJson::array();
  for (std::size_t i = 0; i < s.configurations.size(); ++i) {
    const ConfigurationSummary& c = s.configurations[i];
    OrderedJson entry = {{"label", c.label},
                         {"method", c.method},
                         {"options", OrderedJson::parse(c.options)},
                         {"all_samples", to_json(c.all)},
                         {"contexts", OrderedJson::array()}};
    for (const CellSummary& cell : s.cells) {
      if (cell.configuration == i) entry["contexts"].push_back(to_json(cell));
    }
    json["configurations"].push_back(std::move(entry));
  }
  json["issues"] = s.issues;
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fastkv
