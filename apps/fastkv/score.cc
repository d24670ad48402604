#include "fastkv/score.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct ScoreArguments {
  ScoreOptions score;
  bool per_row = false;
  std::string json;

  void visit(OptionVisitor& v) {
    score.visit(v);
    v.flag("per-row", per_row, "print {\"score\": ...} for each row, and no table");
    v.text("json", "FILE", json, "write the table as JSON");
  }
};

void print_rows(const ScoreReport& report) {
  for (const RowScore& row : report.rows) {
    nlohmann::ordered_json out;
    if (row.error.empty()) {
      out["score"] = row.score;
      for (const auto& [name, value] : row.parts) out[name] = value;
    } else {
      out["error"] = row.error;
    }
    fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

void print_table(const ScoreReport& report) {
  const bool by_length = std::any_of(report.datasets.begin(), report.datasets.end(),
                                     [](const DatasetScore& d) { return !d.by_length.empty(); });
  std::vector<std::string> head = {"data set", "metric", "samples", "score"};
  std::vector<bool> right = {false, false, true, true};
  if (by_length) {
    head.insert(head.end(), {"0-4k", "4-8k", "8k+"});
    right.insert(right.end(), 3, true);
  }
  Table table(head, right);
  for (const DatasetScore& d : report.datasets) {
    std::vector<std::string> row = {d.name, d.metric, std::to_string(d.samples),
                                    fmt::format("{:.2f}", d.score)};
    for (const auto& [_, score] : d.by_length) {
      row.push_back(score ? fmt::format("{:.2f}", *score) : "-");
    }
    row.resize(head.size(), "-");
    table.add(std::move(row));
  }
  fmt::print("{}", table.text());
  if (report.averages.empty()) return;
  Table averages({"mean", "of", "score"}, {false, false, true});
  for (const ScoreAverage& a : report.averages) {
    averages.add(
        {a.label, fmt::format("{} of {}", a.datasets, a.expected), fmt::format("{:.2f}", a.score)});
  }
  fmt::print("\n{}", averages.text());
}

/// What is given and would change nothing is a mistake.
void refuse_unused(const Arguments& given) {
  static constexpr std::pair<std::string_view, std::string_view> owners[] = {
      {"raw", "ruler"},
      {"scorer", "infinitebench"},
      {"jieba", "longbench"},
      {"code-similarity", "longbench"}};
  for (const auto& [name, owner] : owners) {
    if (!given.has(name) || given.words.front() == owner) continue;
    throw Error(fmt::format("--{} is an option of {}, not of {}; leave it out", name, owner,
                            given.words.front()));
  }
}

int run(std::span<const std::string> arguments) {
  ScoreArguments o;
  const Arguments given = read_arguments(arguments, o, "score");
  const std::vector<std::string>& words = given.words;
  if (words.size() < 2) {
    throw Error(
        fmt::format("score needs a benchmark ({}) and a file of answers; fastkv score "
                    "--help shows how",
                    fmt::join(score_benchmarks(), ", ")));
  }
  refuse_unused(given);
  if (!o.json.empty()) check_writable(o.json);
  const ScoreReport report =
      score_files(words[0], std::span<const std::string>(words).subspan(1), o.score);
  if (o.per_row) {
    print_rows(report);
  } else {
    print_table(report);
  }
  if (!o.json.empty()) write_file(o.json, score_report_json(report, o.score));
  if (report.malformed == 0) return 0;
  std::fflush(stdout);
  for (const RowScore& row : report.rows) {
    if (!row.error.empty()) fmt::print(stderr, "{}\n", row.error);
  }
  throw Error(fmt::format("{} of {} rows could not be scored and are in no number above",
                          report.malformed, report.rows.size()));
}

}  // namespace

Command score_command() {
  return {
      .name = "score",
      .summary = "Scores files of answers as the benchmarks' own programs do.",
      .usage = "longbench|ruler|needle|infinitebench FILE... [options]",
      .details =
          "FILE has a JSON object a line:\n"
          "  longbench      \"pred\", \"answers\", \"length\", \"all_classes\"; or \"prediction\","
          " \"ground_truth\",\n"
          "                 a pair that is scored as it is\n"
          "  ruler          \"pred\", \"outputs\"; or \"preds\", \"refs\"\n"
          "  needle         \"response\"; \"needle\", \"context_length\" where known\n"
          "  infinitebench  \"prediction\", \"ground_truth\"\n"
          "A row's score is 0 to 1 (ruler: 0 to 100, needle: 0 to 10), a data set's 0 to 100 "
          "(needle: 0 to 10).\n"
          "docs/scoring.md says what each number is.\n",
      .options = [] { return list_options(ScoreArguments{}); },
      .method_options = false,
      .run = run};
}

}  // namespace fastkv::cli
