// Times each heavy operation of the CPU device and prints its ratio to the ceiling that limits it.
//   ops_bench [--threads N] [--quick] [filter...]

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "ops/ceilings.h"
#include "ops/device.h"

namespace fastkv {
namespace {

struct Options {
  int threads = 0;
  bool quick = false;
  std::vector<std::string> filters;

  bool wants(std::string_view name) const {
    return filters.empty() || std::any_of(filters.begin(), filters.end(), [&](const auto& f) {
             return name.find(f) != std::string_view::npos;
           });
  }
};

template <class Body>
double best_seconds(const Body& body) {
  double best = 1e30, total = 0;
  for (int i = 0; i < 50 && (i < 3 || total < 1.5); ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
    total += taken.count();
  }
  return best;
}

Tensor random(Device& device, DType type, Shape shape) {
  Tensor tensor = device.empty(type, shape);
  std::mt19937 random(1);
  if (type == DType::f32) {
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < shape.count(); ++i) tensor.as<float>()[i] = normal(random);
  } else {  // 16 bits: numbers between 1/2 and 2 of either sign, in both types
    const std::uint16_t base = type == DType::bf16 ? 0x3f00 : 0x3800;
    const std::uint16_t mask = type == DType::bf16 ? 0x80ff : 0x87ff;
    for (std::int64_t i = 0; i < shape.count(); ++i)
      tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(base + (random() & mask));
  }
  return tensor;
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), device_(make_cpu_device({.threads = options.threads})) {
    gemm_ = gemm_flops_per_second(DType::f32, options.threads);
    gemm_bf16_ = gemm_flops_per_second(DType::bf16, options.threads);
    read_ = read_bytes_per_second(options.threads);
    fmt::print("{}\n", device_->description());
    fmt::print(
        "ceilings: float32 GEMM {:.1f} GFLOP/s, bfloat16 GEMM {:.1f} GFLOP/s, read {:.2f} GB/s\n",
        gemm_ / 1e9, gemm_bf16_ / 1e9, read_ / 1e9);
  }

  void linear(std::int64_t rows, std::int64_t depth, std::int64_t columns, DType type) {
    const std::string name =
        fmt::format("linear {} x {} -> {} {}", rows, depth, columns, name_of(type));
    if (!options_.wants(name)) return;
    const Tensor x = random(*device_, DType::f32, {rows, depth});
    // Enough copies of the weight that none stays in a cache, as in a model.
    const std::int64_t copies =
        rows > 8 ? 1 : 1 + (std::int64_t{256} << 20) / (columns * depth * 2);
    const Tensor w = random(*device_, type, {copies * columns, depth});
    const Tensor out = device_->empty(DType::f32, {rows, columns});
    std::int64_t next = 0;
    const double seconds = best_seconds([&] {
      Matrix matrix;
      matrix.parts = 1;
      matrix.part[0] = w.view().slice(next++ % copies * columns, columns);
      device_->linear(x, matrix, out, Device::Store::overwrite);
    });
    if (rows > 8) {
      report_flops(name, 2.0 * static_cast<double>(rows) * static_cast<double>(depth * columns),
                   seconds, type == DType::bf16 ? gemm_bf16_ : gemm_);
    } else {
      report_bytes(name, static_cast<double>(columns * depth) * static_cast<double>(size_of(type)),
                   seconds);
    }
  }

  struct Heads {
    std::int64_t query, kv, dim;
  };

  void attention(std::int64_t tokens, Heads heads) {
    const std::string name =
        fmt::format("attention n {} Hq {} Hkv {} D {}", tokens, heads.query, heads.kv, heads.dim);
    if (!options_.wants(name)) return;
    Prompt prompt(*device_, tokens, heads);
    const Tensor out = device_->empty(DType::f32, {tokens, heads.query * heads.dim});
    const AttentionSegment segment{0, tokens, {}};
    const double seconds = best_seconds([&] {
      device_->attention({.q = prompt.q(),
                          .k = prompt.k(),
                          .v = prompt.v(),
                          .positions = prompt.positions,
                          .segments = {&segment, 1},
                          .layout = {},
                          .sliding_window = 0,
                          .out = out,
                          .log_sum_exp = {}});
    });
    const auto n = static_cast<double>(tokens);
    report_flops(name, 4.0 * static_cast<double>(heads.dim * heads.query) * n * n / 2, seconds,
                 gemm_);
  }

  void decode(std::int64_t sequences, std::int64_t cached, Heads heads, DType type) {
    const std::string name =
        fmt::format("decode {} sequences of {} Hq {} Hkv {} D {} {}", sequences, cached,
                    heads.query, heads.kv, heads.dim, name_of(type));
    if (!options_.wants(name)) return;
    Prompt prompt(*device_, sequences, heads);
    const PageLayout layout{.page_tokens = 64, .head_dim = heads.dim, .type = type};
    const std::int64_t pages = (cached + 63) / 64;
    const auto elements = static_cast<std::int64_t>(layout.bytes() / size_of(type));
    const Tensor memory = random(*device_, type, {sequences * heads.kv * pages, elements});
    std::vector<std::byte*> addresses;
    for (std::int64_t p = 0; p < memory.shape()[0]; ++p)
      addresses.push_back(memory.view().row_bytes(p));
    std::vector<std::int32_t> lengths(static_cast<std::size_t>(sequences * heads.kv),
                                      static_cast<std::int32_t>(cached));
    std::vector<AttentionSegment> segments;
    for (std::int64_t s = 0; s < sequences; ++s) {
      segments.push_back({s,
                          1,
                          {.pages = addresses.data() + s * heads.kv * pages,
                           .lengths = lengths.data() + s * heads.kv,
                           .heads = heads.kv,
                           .page_capacity = pages}});
    }
    const Tensor out = device_->empty(DType::f32, {sequences, heads.query * heads.dim});
    const double seconds = best_seconds([&] {
      device_->attention({.q = prompt.q(),
                          .k = prompt.k(),
                          .v = prompt.v(),
                          .positions = prompt.positions,
                          .segments = segments,
                          .layout = layout,
                          .sliding_window = 0,
                          .out = out,
                          .log_sum_exp = {}});
    });
    report_bytes(name,
                 static_cast<double>(sequences * heads.kv * cached) *
                     static_cast<double>(layout.entry_bytes()),
                 seconds);
  }

  void column_sums(std::int64_t tokens, std::int64_t rows, Heads heads, bool given) {
    const std::string name =
        fmt::format("column_sums n {} rows {} Hq {} Hkv {} D {}{}", tokens, rows, heads.query,
                    heads.kv, heads.dim, given ? ", sums given" : "");
    if (!options_.wants(name)) return;
    Prompt prompt(*device_, tokens, heads);
    const Tensor out = device_->empty(DType::f32, {heads.query, tokens});
    const Tensor log_sum_exp = random(*device_, DType::f32, {tokens, heads.query});
    for (std::int64_t i = 0; i < tokens * heads.query; ++i) log_sum_exp.as<float>()[i] = 50;
    const double seconds = best_seconds([&] {
      device_->column_sums({.q = prompt.q(),
                            .k = prompt.k(),
                            .positions = prompt.positions,
                            .rows = rows,
                            .row_weights = {},
                            .sliding_window = 0,
                            .log_sum_exp = given ? log_sum_exp.view() : View{},
                            .out = out});
    });
    const double pairs = static_cast<double>(rows) * static_cast<double>(tokens) -
                         static_cast<double>(rows) * static_cast<double>(rows) / 2;
    report_flops(name, 2.0 * static_cast<double>(heads.dim * heads.query) * pairs * (given ? 1 : 2),
                 seconds, gemm_);
  }

  void small_operations(std::int64_t tokens, std::int64_t hidden, std::int64_t mlp, Heads heads) {
    const Tensor x = random(*device_, DType::f32, {tokens, 2 * mlp});
    const Tensor out = device_->empty(DType::f32, {tokens, mlp});
    const Tensor weight = random(*device_, DType::f32, {hidden});
    const Tensor positions = device_->empty(DType::i32, {tokens});
    for (std::int64_t i = 0; i < tokens; ++i)
      positions.as<std::int32_t>()[i] = static_cast<std::int32_t>(i);
    const Tensor frequencies = random(*device_, DType::f32, {heads.dim / 2});
    const Tensor chosen = device_->empty(DType::i32, {heads.query, tokens / 10});
    const Tensor scores = random(*device_, DType::f32, {heads.query, tokens});
    const Tensor pooled = device_->empty(DType::f32, {heads.query, tokens});
    const auto time = [&](std::string_view what, const auto& body) {
      const std::string name = fmt::format("{} n {}", what, tokens);
      if (options_.wants(name)) fmt::print("{:<58} {:9.3f} ms\n", name, 1e3 * best_seconds(body));
    };
    const View hidden_states(x.view().data, DType::f32, {tokens, hidden}, 2 * mlp);
    const View normed(out.view().data, DType::f32, {tokens, hidden}, mlp);
    time("rms_norm", [&] { device_->rms_norm(hidden_states, weight, 1e-5F, normed); });
    time("swiglu", [&] { device_->swiglu(x, out); });
    time("rope", [&] {
      const View turning = x.view().heads(0, heads.query + heads.kv, heads.dim);
      device_->rope(turning, heads.query + heads.kv, positions, frequencies, turning);
    });
    time("pool", [&] { device_->pool(scores, tokens - 8, 7, Pooling::max, pooled); });
    time("top_k", [&] { device_->top_k(scores, tokens / 10, 0, 8, chosen); });
  }

 private:
  /// Random queries, keys and values side by side, as a projection leaves them.
  struct Prompt {
    Prompt(Device& device, std::int64_t tokens, Heads h)
        : heads(h),
          qkv(random(device, DType::f32, {tokens, (h.query + 2 * h.kv) * h.dim})),
          positions(device.empty(DType::i32, {tokens})) {
      for (std::int64_t i = 0; i < tokens; ++i)
        positions.as<std::int32_t>()[i] = static_cast<std::int32_t>(i);
    }
    View q() const { return qkv.view().heads(0, heads.query, heads.dim); }
    View k() const { return qkv.view().heads(heads.query * heads.dim, heads.kv, heads.dim); }
    View v() const {
      return qkv.view().heads((heads.query + heads.kv) * heads.dim, heads.kv, heads.dim);
    }
    Heads heads;
    Tensor qkv;
    Tensor positions;
  };

  static void report_flops(const std::string& name, double flops, double seconds, double ceiling) {
    fmt::print("{:<58} {:9.2f} ms {:8.1f} GFLOP/s {:5.1f} %\n", name, 1e3 * seconds,
               flops / seconds / 1e9, 100 * flops / seconds / ceiling);
  }
  void report_bytes(const std::string& name, double bytes, double seconds) const {
    fmt::print("{:<58} {:9.3f} ms {:8.2f} GB/s    {:5.1f} %\n", name, 1e3 * seconds,
               bytes / seconds / 1e9, 100 * bytes / seconds / read_);
  }

  Options options_;
  std::unique_ptr<Device> device_;
  double gemm_ = 0, gemm_bf16_ = 0, read_ = 0;
};

void run(const Options& options) {
  Bench bench(options);
  const Bench::Heads needle{8, 2, 64}, llama_1b{32, 8, 64}, llama_8b{32, 8, 128};
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    bench.linear(4096, 2048, 8192, type);
    bench.linear(4096, 2048, 2048, type);
    if (!options.quick) bench.linear(4096, 8192, 2048, type);
    bench.linear(512, 2048, 8192, type);
    bench.linear(64, 2048, 8192, type);
    bench.linear(16, 2048, 8192, type);
  }
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (std::int64_t rows : {1, 2, 4, 8}) bench.linear(rows, 2048, 8192, type);
    bench.linear(1, 8192, 2048, type);
  }
  bench.attention(2048, needle);
  bench.attention(8192, needle);
  if (!options.quick) bench.attention(32768, needle);
  bench.attention(4096, llama_1b);
  bench.attention(4096, llama_8b);
  for (DType type : {DType::f32, DType::bf16}) {
    bench.decode(1, 32768, llama_1b, type);
    bench.decode(64, 2048, llama_1b, type);
    bench.decode(16, 8192, needle, type);
  }
  bench.column_sums(8192, 8, needle, false);
  bench.column_sums(8192, 8, needle, true);
  bench.column_sums(8192, 8192, needle, false);
  bench.column_sums(8192, 8192, needle, true);
  bench.small_operations(4096, 2048, 8192, llama_1b);
}

}  // namespace
}  // namespace fastkv

int main(int argc, char** argv) {
  fastkv::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--threads" && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
    } else if (argument == "--quick") {
      options.quick = true;
    } else {
      options.filters.emplace_back(argument);
    }
  }
  fastkv::run(options);
}
