#pragma once

#include <string>

#include "fastkv/engine.h"
#include "tasks/sample.h"

// What results depend on beside the options: the model and the program.

namespace fastkv {

/// The checkpoint directory's name, without the path to it.
std::string model_name(const EngineOptions& options);

/// SHA-256 over name, size and content of every file of the checkpoint that the engine reads. Of
/// files above 64 MiB the content is sampled: the first and the last MiB and 62 in between, evenly
/// spaced, so that a model of many gigabytes has its name in a moment.
std::string model_hash(const EngineOptions& options);

/// 16 hexadecimal digits over what is asked and which answers are right.
std::string sample_hash(const Sample& sample);

/// The project's version and, where it was built from a repository, the commit.
std::string code_version();

}  // namespace fastkv
