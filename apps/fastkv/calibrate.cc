#include "fastkv/calibrate.h"

#include <fmt/format.h>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct CalibrateArguments {
  EngineOptions engine;
  CalibrationOptions calibration;
  std::string json, picture;

  void visit(OptionVisitor& v) {
    engine.visit(v);
    calibration.visit(v);
    v.text("json", "FILE", json, "write the choice, for --calibration of the method");
    v.text("picture", "FILE", picture, "draw distance by layer, as .svg or .png");
  }
};

LineChart chart_of(const Calibration& c) {
  LineChart chart;
  chart.title = fmt::format("{}: --{} {}", c.method, c.layer_option, c.chosen);
  chart.subtitle = fmt::format("{}; {} prompts, {:g} % of the tokens go on; bars: standard error",
                               c.model, c.prompts, 100 * c.share);
  chart.x_label = "layer";
  chart.y_label = "squared distance of the final hidden state";
  chart.y_low = 0.0;
  Series series{"distance", {}, {}, {}};
  for (const LayerDistance& l : c.layers) {
    series.points.emplace_back(static_cast<double>(l.layer), l.distance);
    series.errors.push_back(l.error);
  }
  chart.series.push_back(std::move(series));
  return chart;
}

int run(std::span<const std::string> arguments) {
  CalibrateArguments o;
  refuse_words(read_arguments(arguments, o, "calibrate"), "calibrate");
  check_distinct({{"json", o.json}, {"picture", o.picture}});
  if (!o.json.empty()) check_writable(o.json);
  if (!o.picture.empty()) check_picture("picture", o.picture);
  use_bundled_model(o.engine);
  Engine engine = [&] {
    ProgressBar bar("load     ");
    return Engine(o.engine, bar.callback());
  }();
  const Calibration result = [&] {
    ProgressBar bar("calibrate");
    return calibrate(engine, o.engine, o.calibration, bar.callback());
  }();

  Table table({"layer", "distance", "+-", "same token", ""}, {true, true, true, true, false});
  for (const LayerDistance& l : result.layers) {
    table.add({fmt::format("{}", l.layer), fmt::format("{:.4f}", l.distance),
               fmt::format("{:.4f}", l.error), fmt::format("{:.0f} %", 100 * l.same_token),
               l.layer == result.chosen ? "chosen" : ""});
  }
  fmt::print("{}, {}: {} prompts, {:g} % of the tokens go on\n\n{}", result.model, result.method,
             result.prompts, 100 * result.share, table.text());
  if (!o.json.empty()) write_file(o.json, result.json());
  if (!o.picture.empty()) write_picture(o.picture, chart_of(result));
  return 0;
}

}  // namespace

Command calibrate_command() {
  return {.name = "calibrate",
          .summary = "Finds the layer after which a method's selection disturbs the answer least.",
          .usage =
              "[--method NAME] [--share X] [--prompt-file FILE] [--json FILE] [--picture FILE] "
              "[options]",
          .details =
              "distance: mean squared difference of the last token's final hidden state with and "
              "without the\n"
              "selection. Without prompts of one's own, needle prompts of the project's own text "
              "are used.\n",
          .options = [] { return list_options(CalibrateArguments{}); },
          .method_options = false,
          .run = run};
}

}  // namespace fastkv::cli
