#pragma once

#include <string>
#include <vector>

#include "fastkv/engine.h"

namespace fastkv {

/// The parts between commas.
std::vector<std::string> split_list(const std::string& list);

/// Every combination of the listed values that a method has options for, each once: {"retain",
/// "0.1,0.2"} makes two of snapkv and one of full. Throws Error for unknown methods, and for an
/// option that none of them has.
std::vector<MethodChoice> sweep(const std::string& methods, const OptionValues& values,
                                const std::vector<MethodInfo>& known);

}  // namespace fastkv
