#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/benchmark.h"

// Benchmarks' data files: packed or not, JSON Lines, and rows that are not what they should be.

namespace fastkv {

/// The whole file, unpacked when it is gzip or (in builds with liblzma) xz; throws Error.
std::string read_packed_file(const std::filesystem::path& path);

/// The first of DIR/NAME, DIR/NAME.gz, DIR/NAME.xz that exists.
std::optional<std::filesystem::path> find_packed_file(const std::filesystem::path& directory,
                                                      const std::string& name);
/// The same; throws Error with `hint` where there is none.
std::filesystem::path need_packed_file(const std::filesystem::path& directory,
                                       const std::string& name, std::string_view hint);

/// Makes a sample of row number `index` (from 0); throws Error where it cannot.
using MakeSample = std::function<Sample(const nlohmann::json& row, std::int64_t index)>;

/// Hands out the samples of a JSON Lines file (plain or gzip), one line in memory at a time. Rows
/// that are no JSON object, or that `make` refuses, become issues. An id that occurred before gets
/// its line number appended, because a run resumes by it.
void samples_of_rows(const std::filesystem::path& path, const SampleRequest& request,
                     const MakeSample& make, const Benchmark::Take& take,
                     std::vector<Issue>& issues);

}  // namespace fastkv
