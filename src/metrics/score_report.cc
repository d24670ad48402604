#include <nlohmann/json.hpp>

#include "fastkv/score.h"

namespace fastkv {

std::string score_report_json(const ScoreReport& report, const ScoreOptions& options) {
  using Ordered = nlohmann::ordered_json;
  Ordered out = {{"benchmark", report.benchmark}};
  if (report.benchmark == "longbench") out["code_similarity"] = options.code_similarity;
  if (report.benchmark == "infinitebench") out["scorer"] = options.scorer;
  if (report.benchmark == "ruler") out["raw"] = options.raw;
  out["datasets"] = Ordered::array();
  for (const DatasetScore& d : report.datasets) {
    Ordered row = {
        {"dataset", d.name}, {"metric", d.metric}, {"samples", d.samples}, {"score", d.score}};
    for (const auto& [group, score] : d.by_length) {
      row["by_length"][group] = score ? Ordered(*score) : Ordered();
    }
    out["datasets"].push_back(std::move(row));
  }
  out["averages"] = Ordered::array();
  for (const ScoreAverage& a : report.averages) {
    out["averages"].push_back({{"label", a.label},
                               {"datasets", a.datasets},
                               {"expected", a.expected},
                               {"score", a.score}});
  }
  out["malformed"] = Ordered::array();
  for (const RowScore& row : report.rows) {
    if (row.error.empty()) continue;
    out["malformed"].push_back({{"file", row.file}, {"line", row.line}, {"error", row.error}});
  }
  return out.dump(2, ' ', /*ensure_ascii=*/false, Ordered::error_handler_t::replace) + "\n";
}

}  // namespace fastkv
