#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "core/error.h"
#include "model/tensor_source.h"
#include "model/weight_memory.h"
#include "ops/convert.h"

namespace fastkv {
namespace {

/// One step of SplitMix64: a bijection that makes counters look random.
/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// A tensor's own stream of numbers, whatever the order in which tensors are made.
std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t key = mix(seed);
  for (char c : name) key = mix(key ^ static_cast<unsigned char>(c));
  return key;
}

// A normal number is one of 8192 quantiles, picked by 13 random bits: four numbers from one mix()
// and four look-ups in a table that fits the first-level cache. The largest is 3.8 deviations.
constexpr std::size_t quantile_bits = 13;
constexpr std::size_t quantiles = std::size_t{1} << quantile_bits;
using QuantileTable = std::array<float, quantiles>;

/// x with P(normal <= x) = p.
double normal_quantile(double p) {
  double low = -10.0;
  double high = 10.0;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2.0;
    (std::erfc(-middle / std::sqrt(2.0)) / 2.0 < p ? low : high) = middle;
  }
  return (low + high) / 2.0;
}

/// The middles of 8192 equally probable ranges, stretched to a variance of exactly 1.
QuantileTable make_quantiles() {
  QuantileTable table;
  double squares = 0.0;
  for (std::size_t i = 0; i < quantiles / 2; ++i) {
    const double x = normal_quantile((static_cast<double>(i) + 0.5) / double{quantiles});
    table[i] = static_cast<float>(x);
    squares += 2.0 * x * x;
  }
  const auto stretch = static_cast<float>(std::sqrt(double{quantiles} / squares));
  for (std::size_t i = 0; i < quantiles / 2; ++i) {
    table[i] *= stretch;
    table[quantiles - 1 - i] = -table[i];
  }
  return table;
}

template <class T>
T number_from(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return bf16_from_float(value);
  }
}

/// Fills `out` with `deviation` times normal numbers; element i depends on `stream` and i only.
template <class T>
void fill_normal(T* out, std::int64_t count, std::uint64_t stream, float deviation) {
  static const QuantileTable normal = make_quantiles();
  std::array<T, quantiles> table;
  for (std::size_t i = 0; i < quantiles; ++i) table[i] = number_from<T>(normal[i] * deviation);

  const std::int64_t groups = count / 4;
  const auto pick = [&table](std::uint64_t bits, int lane) {
    return table[(bits >> (16 * lane)) % quantiles];
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::uint64_t bits = mix(stream + static_cast<std::uint64_t>(g));
    for (int lane = 0; lane < 4; ++lane) out[g * 4 + lane] = pick(bits, lane);
  }
  const std::uint64_t bits = mix(stream + static_cast<std::uint64_t>(groups));
  for (std::int64_t i = groups * 4; i < count; ++i) {
    out[i] = pick(bits, static_cast<int>(i - groups * 4));
  }
}

std::int64_t parameters_of(const ModelConfig& config) {
  const std::int64_t table = config.vocab_size * config.hidden_size;
  return config.linear_parameters() + (config.tied_embeddings ? 0 : table);
}

/// Linux promises more memory than there is; without this check the program would be killed.
void check_memory(const ModelConfig& config, DType type) {
  const auto needed = static_cast<std::uint64_t>(parameters_of(config)) * size_of(type);
  const auto installed = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                         static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (needed > installed) {
    fail(
        "Random weights of this shape take {:.1f} GiB in {}, but this machine has {:.1f} GiB of "
        "memory; choose a smaller model.",
        static_cast<double>(needed) / 0x1p30, name_of(type),
        static_cast<double>(installed) / 0x1p30);
  }
}

class RandomSource : public TensorSource {
 public:
  RandomSource(const ModelConfig& config, DType type, std::uint64_t seed, const Progress& progress)
      : config_(config), type_(type), seed_(seed), progress_(progress) {}

  bool has(const std::string&) const override { return false; }

  View matrix(const std::string& name, std::int64_t rows, std::int64_t columns) override {
    const View view = allocate(type_, Shape{rows, columns});
    const std::int64_t count = rows * columns;
    const std::uint64_t stream = stream_of(seed_, name);
    if (type_ == DType::bf16) {
      fill_normal(view.as<std::uint16_t>(), count, stream, deviation(name, columns));
    } else {
      fill_normal(view.as<float>(), count, stream, deviation(name, columns));
    }
    done_ += count;
    if (progress_) {
      progress_(static_cast<double>(done_) / static_cast<double>(parameters_of(config_)));
    }
    return view;
  }

  View vector(std::span<const VectorPart> parts) override {
    std::int64_t size = 0;
    for (const VectorPart& part : parts) size += part.size;
    const View view = allocate(DType::f32, Shape{size});
    // Norms of a fresh model are 1, biases 0.
    const bool is_norm = parts.front().name.ends_with("norm.weight");
    std::fill_n(view.as<float>(), size, is_norm ? 1.0F : 0.0F);
    return view;
  }

  void finish(Weights& weights) {
    for (auto& block : memory_.release()) weights.memory.push_back(std::move(block));
    weights.bytes = bytes_;
  }

 private:
  /// 1 / sqrt(inputs) keeps the size of activations. The two projections that add to the residual
  /// stream are smaller by the root of their number, so that the sum stays of the same size.
  float deviation(const std::string& name, std::int64_t inputs) const {
    const bool adds = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    const std::int64_t terms = adds ? 2 * config_.layers : 1;
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(inputs * terms)));
  }

  View allocate(DType type, Shape shape) {
    const std::size_t bytes = static_cast<std::size_t>(shape.count()) * size_of(type);
    bytes_ += bytes;
    return View(memory_.take(bytes), type, shape);
  }

  const ModelConfig& config_;
  DType type_;
  std::uint64_t seed_;
  const Progress& progress_;
  std::int64_t done_ = 0;
  WeightMemory memory_;
  std::size_t bytes_ = 0;
};

}  // namespace

Weights random_weights(const ModelConfig& config, DType type, std::uint64_t seed,
                       const Progress& progress) {
  if (type != DType::f32 && type != DType::bf16) {
    fail("Random weights can be made in float32 or bfloat16, not in {}.", name_of(type));
  }
  check_memory(config, type);
  RandomSource source(config, type, seed, progress);
  Weights weights = collect_weights(config, source);
  source.finish(weights);
  return weights;
}

}  // namespace fastkv
