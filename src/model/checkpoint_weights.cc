#include <fmt/ranges.h>
#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "core/error.h"
#include "model/safetensors.h"
#include "model/tensor_source.h"
#include "model/weight_memory.h"
#include "ops/convert.h"

namespace fastkv {
namespace {

/// Numbers to be written in another type, or to an aligned place.
struct Copy {
  const std::byte* from;  // may be unaligned
  DType from_type;
  std::byte* to;
  DType to_type;
  std::int64_t count;
};

/// Element `i` of numbers that may lie at any address.
template <class T>
T load_unaligned(const std::byte* data, std::int64_t i) {
  T value;
  std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

template <class Read>
void write_as(const Copy& copy, const Read& read) {
  if (copy.to_type == DType::bf16) {
    auto* out = reinterpret_cast<std::uint16_t*>(copy.to);
    for (std::int64_t i = 0; i < copy.count; ++i) out[i] = bf16_from_float(read(i));
  } else {
    auto* out = reinterpret_cast<float*>(copy.to);
    for (std::int64_t i = 0; i < copy.count; ++i) out[i] = read(i);
  }
}

void run(const Copy& copy) {
  const std::byte* from = copy.from;
  if (copy.from_type == copy.to_type) {
    std::memcpy(copy.to, from, static_cast<std::size_t>(copy.count) * size_of(copy.to_type));
  } else if (copy.from_type == DType::f32) {
    write_as(copy, [from](std::int64_t i) { return load_unaligned<float>(from, i); });
  } else if (copy.from_type == DType::f16) {
    write_as(copy, [from](std::int64_t i) {
      return float_from_f16(load_unaligned<std::uint16_t>(from, i));
    });
  } else {
    write_as(copy, [from](std::int64_t i) {
      return float_from_bf16(load_unaligned<std::uint16_t>(from, i));
    });
  }
}

/// Runs the copies on all cores, in pieces that are small enough to share them out evenly.
void run_all(const std::vector<Copy>& copies, const Progress& progress) {
  constexpr std::int64_t piece = std::int64_t{1} << 18;
  std::vector<Copy> pieces;
  for (const Copy& copy : copies) {
    for (std::int64_t begin = 0; begin < copy.count; begin += piece) {
      const auto first = static_cast<std::size_t>(begin);
      pieces.push_back({copy.from + first * size_of(copy.from_type), copy.from_type,
                        copy.to + first * size_of(copy.to_type), copy.to_type,
                        std::min(piece, copy.count - begin)});
    }
  }
  const auto total = static_cast<std::int64_t>(pieces.size());
  constexpr std::int64_t round = 256;  // pieces between two reports of progress
  for (std::int64_t begin = 0; begin < total; begin += round) {
    const std::int64_t end = std::min(total, begin + round);
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t i = begin; i < end; ++i) run(pieces[static_cast<std::size_t>(i)]);
    if (progress) progress(static_cast<double>(end) / static_cast<double>(total));
  }
}

/// The tensors of a directory, checked against what the model needs. Copies are collected while
/// the tensors are asked for, and made afterwards, when it is known that all is well.
class CheckpointSource : public TensorSource {
 public:
  CheckpointSource(const std::filesystem::path& directory, DType type)
      : files_(directory), type_(type) {}

  bool has(const std::string& name) const override { return files_.find(name) != nullptr; }

  View matrix(const std::string& name, std::int64_t rows, std::int64_t columns) override {
    const auto& entry = checked(name, {rows, columns});
    const DType stored = *entry.tensor.type();
    const DType wanted = type_ == DType::bf16 ? DType::bf16 : stored;
    bytes_ += static_cast<std::size_t>(rows * columns) * size_of(wanted);
    // The format does not promise that numbers lie at multiples of their size.
    const bool aligned = reinterpret_cast<std::uintptr_t>(entry.data()) % size_of(stored) == 0;
    if (stored == wanted && aligned) {
      return View(const_cast<std::byte*>(entry.data()), stored, Shape{rows, columns});
    }
    std::byte* to = memory_.take(static_cast<std::size_t>(rows * columns) * size_of(wanted));
    copies_.push_back({entry.data(), stored, to, wanted, rows * columns});
    return View(to, wanted, Shape{rows, columns});
  }

  View vector(std::span<const VectorPart> parts) override {
    std::int64_t size = 0;
    for (const VectorPart& part : parts) size += part.size;
    std::byte* to = memory_.take(static_cast<std::size_t>(size) * size_of(DType::f32));
    const View all(to, DType::f32, Shape{size});
    bytes_ += static_cast<std::size_t>(size) * size_of(DType::f32);
    for (const VectorPart& part : parts) {
      const auto& entry = checked(part.name, {part.size});
      copies_.push_back({entry.data(), *entry.tensor.type(), to, DType::f32, part.size});
      to += static_cast<std::size_t>(part.size) * size_of(DType::f32);
    }
    return all;
  }

  /// Tensors that the checkpoint has, that nobody asked for, and that would change the results:
  /// the config does not describe this model.
  void refuse_ignored(const ModelConfig& config) const {
    for (const auto& [name, entry] : files_.entries()) {
      if (used_.contains(name) || !(name.ends_with(".bias") || name.ends_with("norm.weight"))) {
        continue;
      }
      // Layers above the config's count are left alone: a model may be cut on purpose.
      const std::string_view layers = "model.layers.";
      if (name.starts_with(layers) &&
          std::strtoll(name.c_str() + layers.size(), nullptr, 10) >= config.layers) {
        continue;
      }
      fail(
          "{}: tensor \"{}\" would be ignored for {} with attention_bias {}, and results would be "
          "wrong; check config.json (biases are supported on q_proj, k_proj and v_proj).",
          files_.path().string(), name, config.architecture, config.attention_bias);
    }
  }

  void finish(Weights& weights, const Progress& progress) {
    run_all(copies_, progress);
    for (const auto& file : files_.files()) weights.memory.push_back(file);
    for (auto& block : memory_.release()) weights.memory.push_back(std::move(block));
    weights.bytes = bytes_;
  }

 private:
  /// The one check of names, types and shapes.
  const SafetensorsDirectory::Entry& checked(const std::string& name,
                                             const std::vector<std::int64_t>& dims) {
    const std::string where = files_.path().string();
    const auto* entry = files_.find(name);
    if (!entry) {
      fail("{}: tensor \"{}\" is missing; shape [{}] was expected. {}", where, name,
           fmt::join(dims, ", "), hint(name));
    }
    if (entry->tensor.dims != dims) {
      fail("{}: tensor \"{}\" has shape [{}], expected was [{}] from the sizes in config.json.",
           where, name, fmt::join(entry->tensor.dims, ", "), fmt::join(dims, ", "));
    }
    if (!entry->tensor.type()) {
      fail(
          "{}: tensor \"{}\" has type {}, expected was F32, F16 or BF16; quantized checkpoints "
          "are not supported.",
          where, name, entry->tensor.dtype);
    }
    used_.insert(name);
    return *entry;
  }

  /// What may be wrong when `name` is not there.
  std::string hint(const std::string& name) const {
    if (name == "lm_head.weight") {
      return "Is tie_word_embeddings in config.json meant to be true?";
    }
    for (const auto& [other, entry] : files_.entries()) {
      const auto& longer = other.size() > name.size() ? other : name;
      const auto& shorter = other.size() > name.size() ? name : other;
      if (longer.ends_with("." + shorter)) return fmt::format("There is a \"{}\".", other);
    }
    return fmt::format("The checkpoint has {} tensors.", files_.entries().size());
  }

  SafetensorsDirectory files_;
  DType type_;
  std::set<std::string> used_;
  std::vector<Copy> copies_;
  WeightMemory memory_;
  std::size_t bytes_ = 0;
};

}  // namespace

Weights load_weights(const std::filesystem::path& directory, const ModelConfig& config, DType type,
                     const Progress& progress) {
  CheckpointSource source(directory, type);
  Weights weights = collect_weights(config, source);
  source.refuse_ignored(config);
  source.finish(weights, progress);
  return weights;
}

}  // namespace fastkv
