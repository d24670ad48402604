#include "eval/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "eval/html.h"

namespace fastkv {
namespace {

std::string plus_minus(const Value& v) {
  return v.error ? fmt::format("{:.1f} ± {:.1f}", v.value, *v.error)
                 : fmt::format("{:.1f}", v.value);
}

std::string subtitle(const Summary& s) {
  return fmt::format("{}, {}, {} on {}", s.setting.model, s.setting.protocol, s.setting.dtype,
                     s.setting.device_kind);
}

}  // namespace

std::vector<HeatMap> needle_maps(const Summary& s) {
  std::set<double> depths;
  for (const SampleResult& r : s.results) {
    const auto depth = r.attributes.find("depth");
    if (depth == r.attributes.end()) return {};
    depths.insert(depth->second);
  }
  std::vector<HeatMap> maps;
  for (const ConfigurationSummary& c : s.configurations) {
    std::map<std::pair<double, std::int64_t>, std::vector<double>> cells;
    for (const SampleResult& r : s.results) {
      if (r.method == c.method && r.options == c.options)
        cells[{r.attributes.at("depth"), r.context}].push_back(100.0 * r.score);
    }
    HeatMap map;
    map.title = fmt::format("{}: average {}", c.label, plus_minus(c.all));
    map.subtitle = subtitle(s);
    map.x_label = "context, tokens";
    map.y_label = "depth of the needle, %";
    map.scale_label = "score";
    for (const std::int64_t context : s.contexts) map.x.push_back(fmt::format("{}", context));
    for (const double depth : depths) {
      map.y.push_back(fmt::format("{:g}", depth));
      for (const std::int64_t context : s.contexts) {
        const auto found = cells.find({depth, context});
        map.cells.push_back(found == cells.end() ? std::nullopt
                                                 : std::optional(mean_of(found->second).value));
      }
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

std::optional<LineChart> context_chart(const Summary& s) {
  // The last average is the widest one; without any there is one task or nothing.
  const auto figure = std::find_if(s.figures.rbegin(), s.figures.rend(),
                                   [](const FigureName& f) { return f.average; });
  if (s.contexts.size() < 2 || figure == s.figures.rend()) return std::nullopt;
  LineChart chart;
  chart.title = fmt::format("{}: {}", s.setting.benchmark, figure->name);
  chart.subtitle = subtitle(s) + "; bars: one standard error";
  chart.x_label = "context, tokens";
  chart.y_label = "score";
  chart.logarithmic_x = true;
  chart.y_low = 0.0;
  chart.y_high = 100.0;
  for (std::size_t i = 0; i < s.configurations.size(); ++i) {
    Series series{s.configurations[i].label, {}, {}, s.configurations[i].method};
    for (const std::int64_t context : s.contexts) {
      const CellSummary* cell = s.find(i, context);
      if (!cell) continue;
      for (const auto& [name, value] : cell->figures) {
        if (name != figure->name) continue;
        series.points.emplace_back(static_cast<double>(context), value.value);
        series.errors.push_back(value.error.value_or(0.0));
      }
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

std::string needle_page(const Summary& s, const std::vector<HeatMap>& maps) {
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{0}: "
      "{1}</title>\n"
      "<style>\nbody {{ font-family: Helvetica, Arial, sans-serif; color: #212529; margin: 24px; "
      "}}\n"
      ".maps {{ display: flex; flex-wrap: wrap; gap: 16px; }}\n"
      ".maps svg {{ border: 1px solid #dee2e6; border-radius: 6px; }}\n"
      "p {{ color: #6c757d; }}\n</style>\n</head>\n<body>\n<h1>{0}: {1}</h1>\n"
      "<p>Protocol {2}. Code {3}. Model {4}.</p>\n<div class=\"maps\">\n",
      escaped(s.setting.benchmark), escaped(s.setting.model), escaped(s.setting.protocol),
      escaped(s.setting.code_version), s.setting.model_hash.substr(0, 16));
  for (const HeatMap& map : maps) page += draw_svg(map);
  return page + "</div>\n</body>\n</html>\n";
}

std::string file_name_of(const std::string& label) {
  std::string name;
  for (const char c : label) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
    if (plain) {
      name += c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  while (name.ends_with('-')) name.pop_back();
  return name;
}

}  // namespace fastkv
