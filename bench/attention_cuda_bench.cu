// Checks the CUDA kernels of prompt attention and column sums against double precision, and times
// them.
//   attention_cuda_bench check | time [n ...]

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/attention_prompt_cuda.h"
#include "ops/column_sums_cuda.h"

namespace {

using fastkv::cuda::ColumnSumsArgs;
using fastkv::cuda::PromptAttentionArgs;

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

template <typename T>
struct Buffer {
  explicit Buffer(std::size_t count) : size(count) {
    check(cudaMalloc(&data, count * sizeof(T)), "cudaMalloc");
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data); }
  void poison() { check(cudaMemset(data, 0xff, size * sizeof(T)), "cudaMemset"); }
  void set(const std::vector<T>& from) {
    check(cudaMemcpy(data, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<T> get() const {
    std::vector<T> to(size);
    check(cudaMemcpy(to.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return to;
  }
  T* data = nullptr;
  std::size_t size;
};

// ---- Inputs ----

__global__ void fill_normal(__nv_bfloat16* data, std::size_t count, unsigned seed, float scale) {
  const std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  unsigned long long x = i * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  const float u = (static_cast<float>(x >> 40) + 0.5f) * 0x1p-24f;
  const float v = static_cast<float>(x & 0xFFFFFF) * 0x1p-24f;
  data[i] = __float2bfloat16(scale * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v));
}

struct Problem {
  int n, query_heads, kv_heads, head_dim, window;
};

struct Inputs {
  explicit Inputs(const Problem& problem, unsigned seed = 1)
      : p(problem),
        width((problem.query_heads + 2 * problem.kv_heads) * problem.head_dim),
        qkv(static_cast<std::size_t>(width) * problem.n),
        positions(problem.n),
        out(static_cast<std::size_t>(problem.n) * problem.query_heads * problem.head_dim),
        log_sum_exp(static_cast<std::size_t>(problem.n) * problem.query_heads) {
    fill_normal<<<static_cast<unsigned>((qkv.size + 255) / 256), 256>>>(qkv.data, qkv.size, seed,
                                                                        1.0f);
    check(cudaGetLastError(), "fill_normal");
    std::mt19937 random(seed);
    std::vector<int> at(p.n);
    int next = 3;
    for (int& x : at) {
      x = next;
      next += random() % 4 == 0 ? 1 + static_cast<int>(random() % 9) : 1;
    }
    positions.set(at);
    host_positions = at;
  }
  PromptAttentionArgs attention() const {
    PromptAttentionArgs a;
    a.q = qkv.data;
    a.k = a.q + p.query_heads * p.head_dim;
    a.v = a.k + p.kv_heads * p.head_dim;
    a.q_stride = a.k_stride = a.v_stride = width;
    a.positions = positions.data;
    a.n = p.n;
    a.query_heads = p.query_heads;
    a.kv_heads = p.kv_heads;
    a.head_dim = p.head_dim;
    a.sliding_window = p.window;
    a.out = out.data;
    a.out_stride = p.query_heads * p.head_dim;
    a.log_sum_exp = log_sum_exp.data;
    return a;
  }
  ColumnSumsArgs sums(int rows, const float* weights, float* to) const {
    ColumnSumsArgs a;
    a.q = qkv.data;
    a.k = a.q + p.query_heads * p.head_dim;
    a.q_stride = a.k_stride = width;
    a.positions = positions.data;
    a.n = p.n;
    a.query_heads = p.query_heads;
    a.kv_heads = p.kv_heads;
    a.head_dim = p.head_dim;
    a.rows = rows;
    a.row_weights = weights;
    a.sliding_window = p.window;
    a.log_sum_exp = log_sum_exp.data;
    a.out = to;
    a.out_stride = p.n;
    return a;
  }
  Problem p;
  int width;
  Buffer<__nv_bfloat16> qkv;
  Buffer<int> positions;
  std::vector<int> host_positions;
  Buffer<__nv_bfloat16> out;
  Buffer<float> log_sum_exp;
};

// ---- References in double precision ----

/// One block per row of `rows`: out (rows, D), and in `plain` what rounding the probabilities and
/// the result to bfloat16 makes of it.
__global__ void reference_rows(PromptAttentionArgs a, int head, const int* rows, double* scores,
                               double* out, double* plain, double* log_sum_exp) {
  const int row = rows[blockIdx.x];
  double* s = scores + blockIdx.x * a.n;
  const int kv_head = head / static_cast<int>(a.query_heads / a.kv_heads);
  const __nv_bfloat16* q = a.q + row * a.q_stride + head * a.head_dim;
  __shared__ double reduced[128];
  double top = -INFINITY;
  for (int j = threadIdx.x; j <= row; j += 128) {
    const __nv_bfloat16* k = a.k + j * a.k_stride + kv_head * a.head_dim;
    double dot = 0;
    for (int d = 0; d < a.head_dim; ++d) {
      dot += static_cast<double>(__bfloat162float(q[d])) * __bfloat162float(k[d]);
    }
    const bool seen = a.sliding_window == 0 || a.positions[j] > a.positions[row] - a.sliding_window;
    s[j] = seen ? dot / sqrt(static_cast<double>(a.head_dim)) : -INFINITY;
    top = fmax(top, s[j]);
  }
  reduced[threadIdx.x] = top;
  __syncthreads();
  for (int i = 0; i < 128; ++i) top = fmax(top, reduced[i]);
  __syncthreads();
  double sum = 0;
  for (int j = threadIdx.x; j <= row; j += 128) sum += exp(s[j] - top);
  reduced[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < 128; ++i) sum += reduced[i];
  if (threadIdx.x == 0) log_sum_exp[blockIdx.x] = top + log(sum);
  for (int d = threadIdx.x; d < a.head_dim; d += 128) {
    double exact = 0;
    double rounded = 0;
    for (int j = 0; j <= row; ++j) {
      const double p = exp(s[j] - top);
      const double v = __bfloat162float(a.v[j * a.v_stride + kv_head * a.head_dim + d]);
      exact += p * v;
      rounded += __bfloat162float(__float2bfloat16(static_cast<float>(p))) * v;
    }
    out[blockIdx.x * a.head_dim + d] = exact / sum;
    plain[blockIdx.x * a.head_dim + d] =
        __bfloat162float(__float2bfloat16(static_cast<float>(rounded / sum)));
  }
}

/// One block per key of `keys`.
__global__ void reference_sums(ColumnSumsArgs a, int head, const int* keys, double* out) {
  const int j = keys[blockIdx.x];
  const int kv_head = head / static_cast<int>(a.query_heads / a.kv_heads);
  const __nv_bfloat16* k = a.k + j * a.k_stride + kv_head * a.head_dim;
  __shared__ double reduced[128];
  double sum = 0;
  const int first = static_cast<int>(a.n - a.rows);
  for (int i = max(first, j) + static_cast<int>(threadIdx.x); i < a.n; i += 128) {
    if (a.sliding_window > 0 && a.positions[j] <= a.positions[i] - a.sliding_window) continue;
    const __nv_bfloat16* q = a.q + i * a.q_stride + head * a.head_dim;
    double dot = 0;
    for (int d = 0; d < a.head_dim; ++d) {
      dot += static_cast<double>(__bfloat162float(q[d])) * __bfloat162float(k[d]);
    }
    const double weight = a.row_weights == nullptr ? 1.0 : a.row_weights[i - first];
    sum += weight * exp(dot / sqrt(static_cast<double>(a.head_dim)) -
                        a.log_sum_exp[i * a.query_heads + head]);
  }
  reduced[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 128; ++i) sum += reduced[i];
    out[blockIdx.x] = sum;
  }
}

std::vector<int> chosen(int n, int most) {
  std::vector<int> all;
  if (n <= most) {
    for (int i = 0; i < n; ++i) all.push_back(i);
  } else {
    std::mt19937 random(7);
    for (int i = 0; i < most; ++i) all.push_back(static_cast<int>(random() % n));
    all.front() = 0;
    all.back() = n - 1;
  }
  return all;
}

// ---- Checks ----

using Attention = std::function<void(const PromptAttentionArgs&, cudaStream_t)>;
using Sums = std::function<void(const ColumnSumsArgs&, cudaStream_t)>;

int failures = 0;

struct Reference {
  std::vector<int> heads, rows;
  std::vector<double> out, plain, lse;  // (heads, rows, D)
};

Reference reference(const Inputs& in) {
  Reference r;
  r.rows = chosen(in.p.n, 300);
  r.heads = chosen(in.p.query_heads, 4);
  Buffer<int> rows(r.rows.size());
  rows.set(r.rows);
  const std::size_t count = r.rows.size() * in.p.head_dim;
  Buffer<double> scores(r.rows.size() * in.p.n), out(count), plain(count), lse(r.rows.size());
  for (const int head : r.heads) {
    reference_rows<<<static_cast<unsigned>(r.rows.size()), 128>>>(
        in.attention(), head, rows.data, scores.data, out.data, plain.data, lse.data);
    check(cudaGetLastError(), "reference");
    const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(r.out, out.get());
    append(r.plain, plain.get());
    append(r.lse, lse.get());
  }
  return r;
}

void check_attention(const char* name, const Attention& run, Inputs& in, const Reference& ref) {
  in.out.poison();
  in.log_sum_exp.poison();
  run(in.attention(), nullptr);
  check(cudaDeviceSynchronize(), name);
  const auto out = in.out.get();
  const auto lse = in.log_sum_exp.get();
  bool finite = true;
  for (const auto x : out) finite = finite && std::isfinite(__bfloat162float(x));
  for (const auto x : lse) finite = finite && std::isfinite(x);
  double error = 0, plain = 0, norm = 0, lse_error = 0, worst = 0;
  std::size_t at = 0, row_at = 0;
  for (const int head : ref.heads) {
    for (const int row : ref.rows) {
      const std::size_t index = static_cast<std::size_t>(row) * in.p.query_heads + head;
      lse_error = std::max(lse_error, std::abs(lse[index] - ref.lse[row_at++]));
      for (int d = 0; d < in.p.head_dim; ++d, ++at) {
        const double e = __bfloat162float(out[index * in.p.head_dim + d]) - ref.out[at];
        worst = std::max(worst, std::abs(e));
        error += e * e;
        plain += (ref.plain[at] - ref.out[at]) * (ref.plain[at] - ref.out[at]);
        norm += ref.out[at] * ref.out[at];
      }
    }
  }
  const double relative = std::sqrt(error / norm);
  const double allowed = 2 * std::sqrt(plain / norm) + 1e-6;
  const bool good = finite && relative <= allowed && lse_error < 1e-4;
  failures += !good;
  std::printf(
      "%-5s %-28s n %6d heads %2d/%d D %3d window %4d: error %.2e (plain %.2e) worst %.1e "
      "lse %.1e%s\n",
      good ? "ok" : "FAIL", name, in.p.n, in.p.query_heads, in.p.kv_heads, in.p.head_dim,
      in.p.window, relative, allowed / 2, worst, lse_error, finite ? "" : " not finite");
}

void check_sums(const char* name, const Sums& run, const Inputs& in, int rows, bool weighted) {
  std::vector<float> weights(rows);
  std::mt19937 random(3);
  for (float& w : weights) w = static_cast<float>(random() % 1000) / 500.0f - 0.5f;
  Buffer<float> device_weights(rows);
  device_weights.set(weights);
  Buffer<float> out(static_cast<std::size_t>(in.p.n) * in.p.query_heads);
  out.poison();
  const auto args = in.sums(rows, weighted ? device_weights.data : nullptr, out.data);
  run(args, nullptr);
  check(cudaDeviceSynchronize(), name);
  const auto got = out.get();
  out.poison();
  run(args, nullptr);
  check(cudaDeviceSynchronize(), name);
  const auto again = out.get();
  bool same = true;
  bool finite = true;
  for (std::size_t i = 0; i < got.size(); ++i) {
    same = same && got[i] == again[i];
    finite = finite && std::isfinite(got[i]);
  }
  const auto keys = chosen(in.p.n, 300);
  Buffer<int> device_keys(keys.size());
  device_keys.set(keys);
  Buffer<double> sums(keys.size());
  double error = 0, norm = 0;
  for (const int head : chosen(in.p.query_heads, 4)) {
    reference_sums<<<static_cast<unsigned>(keys.size()), 128>>>(args, head, device_keys.data,
                                                                sums.data);
    check(cudaGetLastError(), "reference");
    const auto expected = sums.get();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const double e = got[static_cast<std::size_t>(head) * in.p.n + keys[i]] - expected[i];
      error += e * e;
      norm += expected[i] * expected[i];
    }
  }
  const double relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
  const bool good = same && finite && relative < 2e-5;
  failures += !good;
  std::printf("%-5s %-28s n %6d heads %2d/%d D %3d window %4d rows %6d%s: error %.2e%s%s\n",
              good ? "ok" : "FAIL", name, in.p.n, in.p.query_heads, in.p.kv_heads, in.p.head_dim,
              in.p.window, rows, weighted ? " weighted" : "", relative,
              same ? "" : " differs between runs", finite ? "" : " not finite");
}

// ---- Times ----

/// Median milliseconds of a call.
double milliseconds(const std::function<void()>& run) {
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  float spent = 0;
  run();
  for (int i = 0; i < 3 || (spent < 400 && i < 60); ++i) {
    check(cudaEventRecord(start), "event");
    run();
    check(cudaEventRecord(stop), "event");
    check(cudaEventSynchronize(stop), "run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, stop), "event");
    times.push_back(ms);
    spent += ms;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Variant {
  std::string name;
  Attention run;
  std::function<bool(const PromptAttentionArgs&)> supports;
};

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "device");
  const bool hopper = device.major == 9;
  std::vector<Variant> attentions;
  attentions.push_back({"sm80", fastkv::cuda::prompt_attention_sm80,
                        [](const PromptAttentionArgs&) { return true; }});
  if (hopper) {
    attentions.push_back({"sm90", fastkv::cuda::prompt_attention_sm90,
                          fastkv::cuda::prompt_attention_sm90_supports});
  }
  std::vector<std::pair<std::string, Sums>> sums{{"sums", fastkv::cuda::column_sums_mma}};

  const std::string mode = argc > 1 ? argv[1] : "check";
  if (mode == "check") {
    for (const int head_dim : {128, 64, 96}) {
      for (const int n : {1, 63, 65, 127, 129, 1000, 4097}) {
        for (const auto& [query_heads, kv_heads] : {std::pair{4, 4}, {8, 2}, {8, 1}, {7, 1}}) {
          for (const int window : {0, 50, 700}) {
            if (window > 0 && (n < 65 || query_heads == 4)) continue;
            if (head_dim == 96 && query_heads != 8) continue;
            Inputs in({n, query_heads, kv_heads, head_dim, window},
                      static_cast<unsigned>(n + window));
            const Reference ref = reference(in);
            for (const Variant& v : attentions) {
              if (v.supports(in.attention())) check_attention(v.name.c_str(), v.run, in, ref);
            }
            for (const auto& [name, run] : sums) {
              for (const int rows : {8, n / 5, n}) {
                if (rows < 1 || rows > n) continue;
                check_sums(name.c_str(), run, in, rows, false);
                if (rows != 8) check_sums(name.c_str(), run, in, rows, true);
              }
            }
          }
        }
      }
    }
    std::printf("%d failures\n", failures);
    return failures != 0;
  }

  std::vector<int> sizes;
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {8192, 32768, 131072};
  for (const int head_dim : {128, 64})
    for (const int n : sizes) {
      if (head_dim == 64 && n > 40000) continue;
      Inputs in({n, 32, 8, head_dim, 0});
      const double flops = 2.0 * n * (n + 1.0) * 32 * head_dim;
      const Reference ref = reference(in);
      for (const Variant& v : attentions) {
        if (v.name == "sm80" && hopper && n > 40000) continue;
        check_attention(v.name.c_str(), v.run, in, ref);
        const double ms = milliseconds([&] { v.run(in.attention(), nullptr); });
        std::printf("time  %-28s n %6d %9.3f ms %6.1f TFLOP/s\n", v.name.c_str(), n, ms,
                    flops / ms * 1e-9);
      }
      Buffer<float> out(static_cast<std::size_t>(n) * 32);
      for (const auto& [name, run] : sums) {
        for (const int rows : {8, n}) {
          check_sums(name.c_str(), run, in, rows, false);
          const double ms = milliseconds([&] { run(in.sums(rows, nullptr, out.data), nullptr); });
          std::printf("time  %-28s n %6d rows %6d %9.3f ms\n", name.c_str(), n, rows, ms);
        }
      }
    }
  return failures != 0;
}
