// Times the operations of a decode step: each over all layers in a row, and as the chain that a
// step is, recorded and repeated as the engine does. What a chain takes beyond its operations'
// bytes is what starting, ending and waiting costs.
//   decode_bench [--device cpu|cuda] [--layers N] [--kept N] [--batch N] [--repeats N]
// Shape of a layer: LLaMA-3.1-8B's.

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "cache/kv_cache.h"
#include "core/error.h"
#include "ops/convert.h"
#include "ops/device.h"

namespace fastkv {
namespace {

constexpr std::int64_t hidden = 4096, mlp = 14336, query_heads = 32, kv_heads = 8, dim = 128;
constexpr std::int64_t qkv_rows = (query_heads + 2 * kv_heads) * dim, vocabulary = 128256;

struct Options {
  std::string_view device = has_cuda_device() ? "cuda" : "cpu";
  std::int64_t layers = 16;
  std::int64_t kept = 13107;
  std::int64_t batch = 1;
  int repeats = 20;
};

/// Numbers of a normal distribution, scaled.
Tensor random(Device& device, DType type, Shape shape, float scale) {
  Tensor tensor = device.empty(type, shape);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> wide(std::size_t{1} << 20);
  for (float& x : wide) x = normal(random);
  std::vector<std::uint16_t> narrow(wide.size());
  std::transform(wide.begin(), wide.end(), narrow.begin(), bf16_from_float);
  const View flat(tensor.view().data, type, {shape.count()});
  const auto pattern = static_cast<std::int64_t>(wide.size());
  for (std::int64_t first = 0; first < shape.count(); first += pattern) {
    device.upload(type == DType::f32 ? static_cast<const void*>(wide.data()) : narrow.data(),
                  flat.slice(first, std::min(pattern, shape.count() - first)));
  }
  device.synchronize();
  return tensor;
}

Matrix matrix(const Tensor& weight) {
  Matrix result;
  result.part[0] = weight;
  result.parts = 1;
  return result;
}

struct Layer {
  Tensor qkv, output, gate_up, down;  // (rows, columns)
};

class DecodeBench {
 public:
  DecodeBench(Device& device, const Options& o)
      : device_(device),
        o_(o),
        type_(device.activation_type()),
        layout_{.page_tokens = 64, .head_dim = dim, .type = type_},
        pool_(device, layout_) {
    for (std::int64_t i = 0; i < o.layers; ++i) {
      layers_.push_back({random(device, DType::bf16, {qkv_rows, hidden}, 0.02F),
                         random(device, DType::bf16, {hidden, query_heads * dim}, 0.02F),
                         random(device, DType::bf16, {2 * mlp, hidden}, 0.02F),
                         random(device, DType::bf16, {hidden, mlp}, 0.02F)});
    }
    const std::int64_t b = o.batch;
    x_ = random(device, DType::f32, {b, hidden}, 1);
    norm_ = random(device, DType::f32, {hidden}, 1);
    qkv_ = random(device, type_, {b, qkv_rows}, 1);
    attended_ = random(device, type_, {b, query_heads * dim}, 1);
    scratch_ = random(device, type_, {b, hidden}, 1);
    both_ = random(device, type_, {b, 2 * mlp}, 1);
    activated_ = random(device, type_, {b, mlp}, 1);
    frequencies_ = device.empty(DType::f32, {dim / 2});
    std::vector<float> frequencies;
    for (int i = 0; i < dim / 2; ++i)
      frequencies.push_back(static_cast<float>(std::pow(5e5, -2.0 * i / static_cast<double>(dim))));
    device.upload(frequencies.data(), frequencies_);
    positions_ = device.empty(DType::i32, {b});
    const std::vector<std::int32_t> positions(static_cast<std::size_t>(b), 131072);
    device.upload(positions.data(), positions_);
    fill_caches();
  }

  void run() {
    const double bandwidth = device_.ceilings().memory_bytes;
    const double cached = static_cast<double>(2 * o_.batch * kv_heads * o_.kept * dim) *
                          static_cast<double>(size_of(type_));
    fmt::print("{}, {} layers, {} sequences of {} entries a head, read at {:.0f} GB/s\n",
               device_.description(), o_.layers, o_.batch, o_.kept, bandwidth / 1e9);
    fmt::print("{:<12}{:>12}{:>12}{:>12}\n", "", "us a layer", "of bytes", "over");
    using Operation = std::function<void(std::int64_t)>;
    const struct {
      const char* name;
      double bytes;
      Operation run;
    } operations[] = {
        {"qkv", 2.0 * qkv_rows * hidden, [&](auto l) { qkv(l); }},
        {"attention", cached, [&](auto l) { attention(l); }},
        {"output", 2.0 * hidden * query_heads * dim, [&](auto l) { output(l); }},
        {"gate, up", 4.0 * mlp * hidden, [&](auto l) { gate_up(l); }},
        {"down", 2.0 * mlp * hidden, [&](auto l) { down(l); }},
    };
    double bytes = 0, sum = 0;
    for (const auto& operation : operations) {
      sum += print(operation.name, operation.bytes / bandwidth, operation.run);
      bytes += operation.bytes;
    }
    const double chain = print("chain", bytes / bandwidth, [&](std::int64_t l) {
      for (const auto& operation : operations) operation.run(l);
    });
    fmt::print("the chain takes {:.1f} us a layer more than its operations each in a row\n",
               1e6 * (chain - sum));
    fmt::print("what a step does once, us a time:\n");
    next_token("argmax", bandwidth, {});
    next_token("draw", bandwidth, {.temperature = 1});
    next_token("top_k, top_p", bandwidth, {.temperature = 1, .top_k = 100, .top_p = 0.9});
  }

 private:
  /// Chooses tokens from logits: those of the highest logits with temperature 0.
  void next_token(const char* name, double bandwidth, const DrawSettings& how) {
    const Tensor logits = random(device_, DType::f32, {o_.batch, vocabulary}, 2.5F);
    const Tensor settings = device_.empty(DType::i32, {o_.batch, Device::draw_ints});
    const Tensor next = device_.empty(DType::i32, {o_.batch});
    const std::vector<DrawSettings> rows(static_cast<std::size_t>(o_.batch), how);
    device_.upload(rows.data(), settings);
    print(name, static_cast<double>(logits.bytes()) / bandwidth, [&](std::int64_t) {
      if (how.temperature == 0) return device_.argmax(logits, next);
      device_.draw(logits, settings, next);
    });
  }

  /// Seconds a layer of `work` done for every layer, printed.
  double print(const char* name, double floor, const std::function<void(std::int64_t)>& work) {
    const auto all = [&] {
      for (std::int64_t layer = 0; layer < o_.layers; ++layer) work(layer);
    };
    all();
    const auto recording = device_.record(all);
    std::vector<double> seconds;
    for (int i = 0; i < o_.repeats; ++i) {
      const auto begin = device_.now();
      recording->replay();
      const auto end = device_.now();
      device_.synchronize();
      seconds.push_back(end->seconds_since(*begin) / static_cast<double>(o_.layers));
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    fmt::print("{:<12}{:12.1f}{:12.1f}{:12.2f}\n", name, 1e6 * median, 1e6 * floor, median / floor);
    return median;
  }

  void fill_caches() {
    // Room for the entries that the steps add: of attention alone and of the chain.
    const std::int64_t most = o_.kept + 2 * (o_.repeats + 2);
    const Tensor k = random(device_, type_, {o_.kept, kv_heads * dim}, 1);
    const Tensor positions = device_.empty(DType::i32, {o_.kept});
    std::vector<std::int32_t> counted;
    for (std::int64_t i = 0; i < o_.kept; ++i) counted.push_back(static_cast<std::int32_t>(i));
    device_.upload(counted.data(), positions);
    const View heads = k.view().heads(0, kv_heads, dim);
    for (std::int64_t i = 0; i < o_.batch; ++i) {
      caches_.push_back(std::make_unique<SequenceCache>(pool_, o_.layers));
      for (std::int64_t layer = 0; layer < o_.layers; ++layer) {
        caches_.back()->reserve(layer, kv_heads, most);
        const Device::StoreArgs store{.k = heads,
                                      .v = heads,
                                      .positions = positions,
                                      .chosen = {},
                                      .first = 0,
                                      .count = o_.kept,
                                      .cache = caches_.back()->layer(layer)};
        device_.store({&store, 1}, layout_);
      }
    }
    device_.synchronize();
  }

  const Layer& at(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)]; }
  void qkv(std::int64_t layer) {
    device_.norm_linear(x_, norm_, 1e-5F, matrix(at(layer).qkv), qkv_, scratch_);
  }
  void attention(std::int64_t layer) {
    const View all = qkv_;
    const View k = all.heads(query_heads * dim, kv_heads, dim);
    const View v = all.heads((query_heads + kv_heads) * dim, kv_heads, dim);
    std::vector<AttentionSegment> segments;
    std::vector<Device::StoreArgs> stores;
    for (std::int64_t i = 0; i < o_.batch; ++i) {
      const CachedLayer cached = caches_[static_cast<std::size_t>(i)]->layer(layer);
      segments.push_back({.first_row = i, .rows = 1, .cached = cached});
      stores.push_back({.k = k,
                        .v = v,
                        .positions = positions_,
                        .chosen = {},
                        .first = i,
                        .count = 1,
                        .cache = cached});
    }
    device_.attention_and_store({.q = all.heads(0, query_heads, dim),
                                 .k = k,
                                 .v = v,
                                 .positions = positions_,
                                 .segments = segments,
                                 .layout = layout_,
                                 .sliding_window = 0,
                                 .out = attended_,
                                 .log_sum_exp = {},
                                 .rope_frequencies = frequencies_},
                                stores);
  }
  void output(std::int64_t layer) {
    device_.linear(attended_, matrix(at(layer).output), x_, Device::Store::accumulate);
  }
  void gate_up(std::int64_t layer) {
    device_.norm_gated_linear(x_, norm_, 1e-5F, matrix(at(layer).gate_up), activated_, scratch_,
                              both_);
  }
  void down(std::int64_t layer) {
    device_.linear(activated_, matrix(at(layer).down), x_, Device::Store::accumulate);
  }

  Device& device_;
  const Options& o_;
  DType type_;
  PageLayout layout_;
  PagePool pool_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<SequenceCache>> caches_;
  Tensor x_, norm_, qkv_, attended_, scratch_, both_, activated_, frequencies_, positions_;
};

}  // namespace
}  // namespace fastkv

int main(int argc, char** argv) try {
  using namespace fastkv;
  Options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    std::int64_t number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    if (name == "--device" && (value == "cpu" || value == "cuda")) {
      o.device = value;
    } else if (name == "--layers" && number > 0) {
      o.layers = number;
    } else if (name == "--kept" && number > 0) {
      o.kept = number;
    } else if (name == "--batch" && number > 0) {
      o.batch = number;
    } else if (name == "--repeats" && number > 0) {
      o.repeats = static_cast<int>(number);
    } else {
      fail(
          "{} {}: options are --device cpu|cuda, and --layers, --kept, --batch, --repeats with a "
          "number above 0",
          name, value);
    }
  }
  const auto device = o.device == "cuda"
                          ? make_cuda_device({.ordinal = 0, .activations = DType::bf16})
                          : make_cpu_device({.threads = 0, .fast_bf16 = false});
  DecodeBench(*device, o).run();
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "decode_bench: {}\n", error.what());
  return 2;
}
