#include "fastkv/score.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/python_text.h"
#include "metrics/row_fields.h"
#include "metrics/scorer.h"

// Files of answers in, numbers out.

namespace fastkv {
namespace {

/// A file's name often is its data set's: "qasper.jsonl", "preds_passkey.jsonl".
std::string dataset_of_file(const std::string& file) {
  std::string name = std::filesystem::path(file).stem().string();
  if (name.starts_with("preds_")) name.erase(0, 6);
  return name;
}

class FileReader {
 public:
  FileReader(Scorer& scorer, const ScoreOptions& options, ScoreReport& report)
      : scorer_(scorer), options_(options), report_(report) {}

  void read(const std::string& file) {
    const std::string text = read_text_file(file);
    std::size_t line = 0;
    bool any = false;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view content = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      ++line;
      if (python_strip(content).empty()) continue;
      any = true;
      read_row(file, line, content);
    }
    if (!any) fail("{}: this file has no rows; expected a JSON object a line.", file);
  }

  std::vector<DatasetSamples> take() { return std::move(collected_); }

 private:
  void read_row(const std::string& file, std::size_t line, std::string_view content) {
    const std::string where = fmt::format("{}, line {}", file, line);
    RowScore& out = report_.rows.emplace_back();
    out.file = file;
    out.line = line;
    Json row;
    try {
      row = parse_json(content, where);
      if (!row.is_object()) fail("{}: a row must be a JSON object.", where);
    } catch (const Error& error) {
      set_error(out, where, error);
      return;
    }
    const std::string dataset = dataset_of(row, file, where);  // errors concern more than the row
    try {
      ScoredRow scored = scorer_.score(dataset, row, where);
      out.score = scored.score;
      out.parts = std::move(scored.parts);
      DatasetSamples& into = collect(dataset);
      into.samples.insert(into.samples.end(), scored.samples.begin(), scored.samples.end());
      if (scored.length) into.lengths.push_back(*scored.length);
    } catch (const Error& error) {
      set_error(out, where, error);
    }
  }

  void set_error(RowScore& row, const std::string& where, const Error& error) {
    row.error = error.what();
    if (!row.error.starts_with(where)) row.error = where + ": " + row.error;
    ++report_.malformed;
  }

  std::string dataset_of(const Json& row, const std::string& file, const std::string& where) {
    std::string name = options_.dataset;
    const Json* field = any_field(row, {"dataset", "task"}, where);
    if (name.empty() && field && field->is_string()) name = field->get<std::string>();
    if (name.empty()) name = scorer_.unnamed(row);
    if (name.empty()) name = dataset_of_file(file);
    const std::string known = scorer_.find(name);
    if (known.empty()) {
      fail(
          "{}: '{}' is no data set of {}; name one by --dataset, by \"dataset\" in the rows or by "
          "the file's name: {}",
          where, name, report_.benchmark, fmt::join(scorer_.datasets(), ", "));
    }
    scorer_.check(known);
    return known;
  }

  DatasetSamples& collect(const std::string& dataset) {
    for (DatasetSamples& c : collected_) {
      if (c.name == dataset) return c;
    }
    collected_.push_back({dataset, {}, {}});
    return collected_.back();
  }

  Scorer& scorer_;
  const ScoreOptions& options_;
  ScoreReport& report_;
  std::vector<DatasetSamples> collected_;
};

}  // namespace

void ScoreOptions::visit(OptionVisitor& v) {
  v.text("dataset", "NAME", dataset,
         "data set of all rows (default: \"dataset\" in a row, or the file's name)");
  v.choice("code-similarity", code_similarity, {"difflib", "levenshtein"},
           "what LongBench's code metric compares with: fuzzywuzzy's two back-ends");
  v.choice("scorer", scorer, {"v1", "v2"}, "InfiniteBench's scorer: before August 2024, or since");
  v.text("jieba", "DIR", jieba,
         "directory with dict.txt and hmm.json, for LongBench's Chinese data sets");
  v.flag("raw", raw, "score RULER's predictions without its post-processing");
}

ScoreReport score_files(const std::string& benchmark, std::span<const std::string> files,
                        const ScoreOptions& options) {
  const std::unique_ptr<Scorer> scorer = make_scorer(benchmark, options);
  ScoreReport report;
  report.benchmark = benchmark;
  FileReader reader(*scorer, options, report);
  for (const std::string& file : files) reader.read(file);

  std::vector<DatasetSamples> collected = reader.take();
  const std::vector<std::string> order = scorer->datasets();
  const auto place = [&](const DatasetSamples& c) {
    return std::find(order.begin(), order.end(), c.name) - order.begin();
  };
  std::stable_sort(
      collected.begin(), collected.end(),
      [&](const DatasetSamples& a, const DatasetSamples& b) { return place(a) < place(b); });
  for (const DatasetSamples& c : collected) {
    DatasetScore& score = report.datasets.emplace_back(scorer->summary(c));
    score.name = c.name;
    score.samples = c.samples.size();
  }
  if (!report.datasets.empty()) report.averages = scorer->averages(report.datasets);
  return report;
}

}  // namespace fastkv
