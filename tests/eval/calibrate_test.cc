#include "fastkv/calibrate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/expect_error.h"

namespace fastkv {
namespace {

EngineOptions bundled() {
  EngineOptions options;
  options.model = std::string(FASTKV_SOURCE_DIR) + "/models/needle-v2-14m";
  return options;
}

TEST(Calibrate, ChoosesTheLayerThatMovesTheEndLeast) {
  Engine engine(bundled());
  CalibrationOptions options;
  options.samples = 2;
  options.context = 600;
  const Calibration c = calibrate(engine, bundled(), options);
  ASSERT_EQ(c.layers.size(), 7U) << "the first half of 14 layers";
  EXPECT_EQ(c.prompts, 2U);
  for (const LayerDistance& l : c.layers)
    EXPECT_GE(l.distance, c.layers[static_cast<std::size_t>(c.chosen)].distance) << l.layer;
  EXPECT_GT(c.layers[0].distance, 2 * c.layers[static_cast<std::size_t>(c.chosen)].distance);

  // Without anything left out there is no distance.
  options.share = 1.0;
  options.max_layer = 1;
  test::expect_error([&] { calibrate(engine, bundled(), options); }, {"nothing was left out"});
  options.method = "gemfilter";
  options.share.reset();
  options.max_layer = 3;
  const Calibration gem = calibrate(engine, bundled(), options);
  EXPECT_EQ(gem.layer_option, "filter-layer");
  EXPECT_EQ(gem.share, 0.1);
  EXPECT_GT(gem.layers[0].distance, 0.0);
  options.method = "snapkv";
  test::expect_error([&] { calibrate(engine, bundled(), options); }, {"fastkv, gemfilter"});
  options.method = "fastkv";
  options.max_layer = 14;
  test::expect_error([&] { calibrate(engine, bundled(), options); }, {"outside the model"});
}

TEST(Calibrate, ItsFileSetsTheMethodsOptions) {
  namespace fs = std::filesystem;
  const fs::path file =
      fs::temp_directory_path() / ("fastkv_calibration_" + std::to_string(getpid()) + ".json");
  Calibration c;
  c.method = "fastkv";
  c.layer_option = "tsp-layer";
  c.share_option = "tsp-rate";
  c.chosen = 4;
  c.share = 0.35;
  c.model_shape = "14 layers of 256, 8 query heads and 2 KV heads";
  std::ofstream(file) << c.json();
  Engine engine(bundled());
  const auto options = [&](OptionValues values) {
    values["calibration"] = file.string();
    return nlohmann::json::parse(engine.start({"fastkv", values}).report().options);
  };
  EXPECT_EQ(options({})["tsp_layer"], 4);
  EXPECT_EQ(options({})["tsp_rate"], 0.35);
  EXPECT_EQ(options({{"tsp-rate", "0.5"}})["tsp_rate"], 0.5);
  EXPECT_FALSE(options({}).contains("calibration"));
  test::expect_error([&] { options({{"tsp-layer", "3"}}); }, {"leave one of them out"});
  c.layer_option = "filter-layer";
  c.share_option = "retain";
  std::ofstream(file) << c.json();
  const auto gemfilter = nlohmann::json::parse(
      engine.start({"gemfilter", {{"calibration", file.string()}}}).report().options);
  EXPECT_EQ(gemfilter["filter_layer"], 4);
  EXPECT_EQ(gemfilter["retain"], 0.35);
  test::expect_error([&] { options({}); }, {"tsp_layer"});  // made for another method
  c.layer_option = "tsp-layer";
  c.share_option = "tsp-rate";
  c.chosen = 14;
  std::ofstream(file) << c.json();
  test::expect_error([&] { options({}); }, {"outside the model"});
  c.chosen = 4;
  c.model_shape = "32 layers of 4096, 32 query heads and 8 KV heads";
  std::ofstream(file) << c.json();
  test::expect_error([&] { options({}); }, {c.model_shape, "this one has 14 layers of 256"});
  std::ofstream(file) << "{}";
  test::expect_error([&] { options({}); }, {"model_shape"});
  fs::remove(file);
  test::expect_error([&] { options({}); }, {file.filename().string()});
}

}  // namespace
}  // namespace fastkv
