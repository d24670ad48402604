#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/summary.h"
#include "fastkv/draw.h"

namespace fastkv {

/// One map of depth and context for each configuration; none where samples have no depth.
std::vector<HeatMap> needle_maps(const Summary& summary);

/// Score against context, where there are several contexts and tasks.
std::optional<LineChart> context_chart(const Summary& summary);

/// All maps side by side, in one file that needs nothing else.
std::string needle_page(const Summary& summary, const std::vector<HeatMap>& maps);

/// A label as part of a file's name.
std::string file_name_of(const std::string& label);

}  // namespace fastkv
