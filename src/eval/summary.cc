#include "eval/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"
#include "fastkv/engine.h"

namespace fastkv {
namespace {

/// "9" before "10", as a reader expects.
bool natural_less(const std::string& a, const std::string& b) {
  const auto number = [](const std::string& s) {
    return !s.empty() && s.find_first_not_of("0123456789") == std::string::npos;
  };
  if (number(a) && number(b) && a.size() != b.size()) return a.size() < b.size();
  return a < b;
}

/// Position in a list; behind its end where it is not in it.
template <class List, class Project>
std::size_t place(const List& list, const std::string& name, Project project) {
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const auto& item) { return project(item) == name; });
  return static_cast<std::size_t>(found - list.begin());
}

// Configurations --------------------------------------------------------------------------------

std::string value_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string percent(double share) { return fmt::format("{:.6g} %", 100 * share); }

/// The method, its budget, and those options that differ among configurations of this method.
std::string label_of(const ConfigurationSummary& c, const std::vector<ConfigurationSummary>& all) {
  const Json options = Json::parse(c.options);
  const std::string budget = options.value("mode", "") == "constant" ? "capacity" : "retain";
  std::string label = c.method;
  if (options.contains(budget)) {
    const Json& value = options[budget];
    label += " " + (budget == "retain" ? percent(value.get<double>()) : value_text(value));
  }
  for (const auto& [name, value] : options.items()) {
    if (name == budget || name == "mode") continue;
    const bool differs = std::any_of(all.begin(), all.end(), [&](const ConfigurationSummary& o) {
      if (o.method != c.method) return false;
      const Json other = Json::parse(o.options);
      return !other.contains(name) || other[name] != value;
    });
    if (!differs) continue;
    std::string dashed = name;
    std::replace(dashed.begin(), dashed.end(), '_', '-');
    label += ", " + dashed + " " + value_text(value);
  }
  return label;
}

/// In the order of the table of methods, then by the options' values.
std::vector<ConfigurationSummary> find_configurations(const std::vector<ResultFile>& files) {
  std::set<std::pair<std::string, std::string>> found;
  for (const ResultFile& file : files) {
    for (const SampleResult& r : file.results) found.insert({r.method, r.options});
  }
  std::vector<ConfigurationSummary> all;
  for (const auto& [method, options] : found) all.push_back({"", method, options, {}});
  const std::vector<MethodInfo> methods = list_methods();
  const auto rank = [&](const ConfigurationSummary& c) {
    return place(methods, c.method, [](const MethodInfo& m) { return m.name; });
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const ConfigurationSummary& a, const ConfigurationSummary& b) {
                     if (rank(a) != rank(b)) return rank(a) < rank(b);
                     return Json::parse(a.options) < Json::parse(b.options);
                   });
  for (ConfigurationSummary& c : all) c.label = label_of(c, all);
  return all;
}

// Results ---------------------------------------------------------------------------------------

/// Every result once, in an order that does not depend on which file had it.
std::vector<SampleResult> gather(const std::vector<ResultFile>& files,
                                 std::vector<std::string>& notes) {
  std::map<std::string, SampleResult> by_key;
  std::int64_t again = 0;
  for (const ResultFile& file : files) {
    for (const SampleResult& r : file.results) {
      const auto [found, is_new] = by_key.emplace(r.key(), r);
      if (is_new) continue;
      ++again;
      if (r.json() < found->second.json()) found->second = r;
    }
  }
  if (again > 0) notes.push_back(fmt::format("{} results are there twice and count once", again));
  std::vector<SampleResult> results;
  for (auto& [key, result] : by_key) results.push_back(std::move(result));
  return results;
}

// Figures ---------------------------------------------------------------------------------------

/// A figure with its place in tables.
struct RankedFigure {
  std::tuple<bool, std::size_t, std::string> rank;  // average, place, label
  std::string name;
  Value value;
};

/// The benchmark's figures of one task. The standard error is that of the samples that a figure is
/// made of: those which alone would have that figure.
std::vector<RankedFigure> task_figures(const Benchmark& benchmark, const std::string& task,
                                       std::size_t task_place, std::span<const Scored> scored) {
  std::map<std::string, std::vector<double>> members;
  for (const Scored& sample : scored) {
    for (const Figure& figure : benchmark.task_figures({&sample, 1}))
      members[figure.label].push_back(100.0 * sample.score);
  }
  std::vector<RankedFigure> figures;
  for (const Figure& figure : benchmark.task_figures(scored)) {
    Value value = mean_of(members[figure.label]);
    value.value = figure.value;
    value.samples = figure.count;
    const bool whole = figure.label == "score";
    figures.push_back({{false, task_place, whole ? "" : figure.label},
                       whole ? task : task + " " + figure.label,
                       value});
  }
  return figures;
}

/// The benchmark's averages over tasks, or a plain mean of several tasks where it has none for
/// them.
std::vector<Figure> averages_of(const Benchmark& benchmark,
                                const std::map<std::string, double>& scores) {
  std::vector<Figure> figures = benchmark.averages(scores);
  if (!figures.empty() || scores.size() < 2) return figures;
  double sum = 0.0;
  for (const auto& [task, score] : scores) sum += score;
  const auto count = static_cast<double>(scores.size());
  return {{fmt::format("mean of {} tasks", scores.size()), std::round(100 * sum / count) / 100,
           static_cast<std::int64_t>(scores.size())}};
}

/// Averages are linear in the tasks' scores, so a large step in one gives its weight.
std::vector<RankedFigure> average_figures(const Benchmark& benchmark,
                                          const std::map<std::string, double>& scores,
                                          const std::map<std::string, Value>& values) {
  constexpr double step = 1e6;
  std::vector<RankedFigure> figures;
  const std::vector<Figure> averages = averages_of(benchmark, scores);
  for (std::size_t i = 0; i < averages.size(); ++i) {
    double variance = 0.0;
    bool known = true;
    for (const auto& [task, value] : values) {
      std::map<std::string, double> moved = scores;
      moved[task] += step;
      const double weight = (averages_of(benchmark, moved).at(i).value - averages[i].value) / step;
      if (std::abs(weight) < 1e-6) continue;
      known &= value.error.has_value();
      variance += std::pow(weight * value.error.value_or(0.0), 2);
    }
    Value value{averages[i].value, std::nullopt, averages[i].count};
    if (known) value.error = std::sqrt(variance);
    figures.push_back({{true, i, averages[i].label}, averages[i].label, value});
  }
  return figures;
}

// Costs -----------------------------------------------------------------------------------------

void add_to(std::vector<double>& sums, std::size_t i, double value) {
  if (sums.size() <= i) sums.resize(i + 1, 0.0);
  sums[i] += value;
}

void add_costs(CellSummary& cell, const std::vector<const SampleResult*>& results) {
  cell.samples = static_cast<std::int64_t>(results.size());
  double steps = 0.0, decoding = 0.0;
  for (const SampleResult* r : results) {
    cell.prompt_tokens += static_cast<double>(r->prompt_tokens);
    cell.truncated += r->truncated ? 1.0 : 0.0;
    for (std::size_t i = 0; i < r->kept.size(); ++i) {
      const auto kept = static_cast<double>(r->kept[i]);
      add_to(cell.kept, i, kept);
      add_to(cell.layer_bytes, i,
             kept * static_cast<double>(r->heads[i]) * static_cast<double>(r->entry_bytes));
    }
    cell.kv_bytes += static_cast<double>(r->kv_bytes);
    cell.kv_share += static_cast<double>(r->kv_bytes) / static_cast<double>(r->kv_bytes_full);
    cell.prefill_seconds += r->prefill_seconds;
    cell.selection_seconds += r->selection_seconds;
    cell.first_token_seconds += r->first_token_seconds;
    cell.seconds += r->seconds;
    if (r->generated_tokens > 1) {
      steps += static_cast<double>(r->generated_tokens - 1);
      decoding += r->decode_seconds;
    }
    cell.peak_memory = std::max(cell.peak_memory, r->peak_memory);
  }
  const auto n = static_cast<double>(results.size());
  for (double* sum : {&cell.prompt_tokens, &cell.kv_bytes, &cell.kv_share, &cell.prefill_seconds,
                      &cell.selection_seconds, &cell.first_token_seconds})
    *sum /= n;
  for (double& sum : cell.kept) sum /= n;
  for (double& sum : cell.layer_bytes) sum /= n;
  cell.decode_tokens_per_second = decoding > 0 ? steps / decoding : 0.0;
}

}  // namespace

Value mean_of(const std::vector<double>& values) {
  Value result;
  result.samples = static_cast<std::int64_t>(values.size());
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) result.value += v;
  result.value /= n;
  if (values.size() < 2) return result;
  double squares = 0.0;
  for (const double v : values) squares += (v - result.value) * (v - result.value);
  result.error = std::sqrt(squares / (n - 1) / n);
  return result;
}

const CellSummary* Summary::find(std::size_t configuration, std::int64_t context) const {
  for (const CellSummary& cell : cells) {
    if (cell.configuration == configuration && cell.context == context) return &cell;
  }
  return nullptr;
}

Summary summarise(std::vector<ResultFile> files, const Benchmark& benchmark) {
  Summary s;
  if (files.empty()) return s;
  for (const ResultFile& file : files) {
    const std::string other = difference(files.front().setting, file.setting);
    if (!other.empty()) {
      fail("the results do not belong into one table: one of the files has {}", other);
    }
  }
  s.setting = files.front().setting;
  std::set<std::string> models, issues;
  for (ResultFile& file : files) {
    models.insert(file.setting.model);
    issues.insert(file.issues.begin(), file.issues.end());
    s.notes.insert(s.notes.end(), file.notes.begin(), file.notes.end());
  }
  s.setting.model = *models.begin();
  s.issues.assign(issues.begin(), issues.end());
  s.configurations = find_configurations(files);
  s.results = gather(files, s.notes);
  std::map<std::string, std::string> samples;
  for (const SampleResult& r : s.results) {
    if (r.sample.empty() || samples.emplace(r.sample_key(), r.sample).first->second == r.sample)
      continue;
    fail("the results do not belong into one table: sample {} of {} is not the same in all of them",
         r.id, r.task);
  }

  const std::vector<TaskInfo> tasks = benchmark.tasks();
  const auto task_place = [&](const std::string& task) {
    return place(tasks, task, [](const TaskInfo& t) { return t.name; });
  };
  const auto configuration_of = [&](const SampleResult& r) {
    for (std::size_t i = 0; i < s.configurations.size(); ++i) {
      const ConfigurationSummary& c = s.configurations[i];
      if (c.method == r.method && c.options == r.options) return i;
    }
    return s.configurations.size();
  };
  std::vector<std::tuple<std::size_t, std::int64_t, std::size_t, std::size_t>> order;
  for (std::size_t i = 0; i < s.results.size(); ++i) {
    const SampleResult& r = s.results[i];
    order.push_back({configuration_of(r), r.context, task_place(r.task), i});
  }
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    const auto head = [](const auto& o) {
      return std::tuple(std::get<1>(o), std::get<0>(o), std::get<2>(o));
    };
    if (head(a) != head(b)) return head(a) < head(b);
    return natural_less(s.results[std::get<3>(a)].id, s.results[std::get<3>(b)].id);
  });

  std::map<std::pair<std::int64_t, std::size_t>, std::vector<const SampleResult*>> by_cell;
  std::vector<std::vector<double>> all_scores(s.configurations.size());
  std::vector<SampleResult> sorted;
  for (const auto& entry : order) sorted.push_back(std::move(s.results[std::get<3>(entry)]));
  s.results = std::move(sorted);
  std::set<std::int64_t> contexts;
  for (std::size_t i = 0; i < s.results.size(); ++i) {
    const std::size_t configuration = std::get<0>(order[i]);
    by_cell[{s.results[i].context, configuration}].push_back(&s.results[i]);
    all_scores[configuration].push_back(100.0 * s.results[i].score);
    contexts.insert(s.results[i].context);
  }
  s.contexts.assign(contexts.begin(), contexts.end());
  for (std::size_t i = 0; i < all_scores.size(); ++i)
    s.configurations[i].all = mean_of(all_scores[i]);

  std::map<std::tuple<bool, std::size_t, std::string>, std::string> names;
  for (const auto& [at, results] : by_cell) {
    CellSummary cell;
    cell.context = at.first;
    cell.configuration = at.second;
    add_costs(cell, results);
    std::map<std::size_t, std::vector<Scored>> by_task;
    for (const SampleResult* r : results)
      by_task[task_place(r->task)].push_back({r->score, r->length});
    std::map<std::string, double> scores;
    std::map<std::string, Value> values;
    std::vector<RankedFigure> figures;
    for (const auto& [task, scored] : by_task) {
      if (task == tasks.size()) continue;  // of a task that the benchmark does not have (any more)
      for (RankedFigure& f : task_figures(benchmark, tasks[task].name, task, scored)) {
        if (f.name == tasks[task].name) {
          scores[f.name] = f.value.value;
          values[f.name] = f.value;
        }
        figures.push_back(std::move(f));
      }
    }
    for (RankedFigure& f : average_figures(benchmark, scores, values))
      figures.push_back(std::move(f));
    for (RankedFigure& f : figures) {
      names.emplace(f.rank, f.name);
      cell.figures.emplace_back(f.name, f.value);
    }
    s.cells.push_back(std::move(cell));
  }
  for (const auto& [rank, name] : names) s.figures.push_back({name, std::get<0>(rank)});
  return s;
}

}  // namespace fastkv
