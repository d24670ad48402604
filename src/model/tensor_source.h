#pragma once

#include <span>
#include <string>

#include "model/weights.h"

namespace fastkv {

/// Where a model's tensors come from: a checkpoint, or a generator of random numbers.
class TensorSource {
 public:
  struct VectorPart {
    std::string name;
    std::int64_t size;
  };

  virtual ~TensorSource() = default;
  virtual bool has(const std::string& name) const = 0;
  /// (rows, columns) in a type that weights may have.
  virtual View matrix(const std::string& name, std::int64_t rows, std::int64_t columns) = 0;
  /// The parts one after the other, as float32.
  virtual View vector(std::span<const VectorPart> parts) = 0;
};

/// Asks `source` for every tensor of a model by its Hugging Face name and shape: the one place
/// where names and shapes are written down. The memory behind the views stays the source's matter.
Weights collect_weights(const ModelConfig& config, TensorSource& source);

}  // namespace fastkv
