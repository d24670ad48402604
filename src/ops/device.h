#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/draw.h"

namespace fastkv {

// Letters used for shapes, here and in every file above this one:
//   n  tokens (rows) in this call        H   hidden size          I  MLP size      V  vocabulary
//   Hq query heads                       Hkv key/value heads      g  Hq / Hkv      D  head size
//   C  cached heads of a layer: Hkv, or Hq where a method keeps per query head

/// The cached keys and values of one layer of one sequence, all of it in the device's memory. Each
/// head's entries lie in order, in pages; page p holds entries [p * page_tokens, (p + 1) *
/// page_tokens). Heads may have different lengths.
struct CachedLayer {
  std::byte* const* pages = nullptr;  // (heads, page_capacity) addresses
  std::int32_t* lengths = nullptr;    // (heads) entries in use
  std::int64_t heads = 0;             // C; 0: nothing is cached yet
  std::int64_t page_capacity = 0;
};

/// What a page holds, one block after the other: keys (page_tokens, D), values (page_tokens, D),
/// both of `type`, and positions (page_tokens) of int32.
struct PageLayout {
  std::int64_t page_tokens = 0;
  std::int64_t head_dim = 0;
  DType type = DType::f32;

  std::size_t value_offset() const {
    return static_cast<std::size_t>(page_tokens * head_dim) * size_of(type);
  }
  std::size_t position_offset() const { return 2 * value_offset(); }
  std::size_t bytes() const {
    return position_offset() + static_cast<std::size_t>(page_tokens) * 4;
  }
  /// Bytes one cached entry of one head takes (key and value, without its position).
  std::size_t entry_bytes() const { return 2 * static_cast<std::size_t>(head_dim) * size_of(type); }
};

/// Rows of a call that belong to one sequence, and what that sequence has cached in this layer.
struct AttentionSegment {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  CachedLayer cached;
};

struct AttentionArgs {
  View q;          // (n, Hq, D), after rotary embedding
  View k;          // (n, Hkv, D), after rotary embedding: the rows' own keys, not yet cached
  View v;          // (n, Hkv, D)
  View positions;  // (n) int32, ascending within a segment; cached positions lie before them
  std::span<const AttentionSegment> segments;
  PageLayout layout;                // of the cached heads
  std::int64_t sliding_window = 0;  // a query at position p sees positions > p - window; 0: all
  View out;                         // (n, Hq * D)
  View log_sum_exp;            // (n, Hq) float32, optional: log of each row's softmax denominator
  View rope_frequencies = {};  // (D / 2) float32, for attention_and_store() only: q and k are not
                               // rotated yet, and may be afterwards
};

/// Sums of attention probabilities over the last `rows` queries of a fresh prompt:
///   out[h, j] = sum_i weight[i] * softmax_j(q[h, i] . k[h / g, j] / sqrt(D)), i in [n - rows, n),
/// causal, for every key j < n. `row_weights` (rows, float32, host memory) may be empty: all one.
struct ColumnSumArgs {
  View q;          // (n, Hq, D)
  View k;          // (n, Hkv, D)
  View positions;  // (n) int32
  std::int64_t rows = 0;
  std::span<const float> row_weights;
  std::int64_t sliding_window = 0;
  View log_sum_exp;  // (n, Hq) float32 from attention(); computed here where it is empty
  View out;          // (Hq, n) float32
};

enum class Pooling { max, average };

/// Operations as they were issued once, to be issued again with the same addresses: what lies there
/// may have changed.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

/// A moment in the order of operations.
class TimeStamp {
 public:
  virtual ~TimeStamp() = default;
  /// Seconds from `earlier` to here. Both must be over: after synchronize().
  virtual double seconds_since(const TimeStamp& earlier) const = 0;
};

/// What a device does at best, measured: the figures that benchmarks are compared with.
struct DeviceCeilings {
  double gemm_flops = 0;       // a second, of one large matrix product through the library in use
  double attention_flops = 0;  // a second, of causal attention over a long prompt
  double memory_bytes = 0;     // a second, read (or read and written, on devices of their own)
};

/// One device: its memory and every operation the engine needs. The CPU's implementation is the
/// specification; other devices are compared with it. Callers pass shapes that fit (checked by
/// assertions only), because every border above this one has checked the user's input.
///
/// Activations are of activation_type(), hidden states, to which every layer adds, always float32:
/// sums of many layers would suffer in less. Weights may be stored in any floating type. Operations
/// are issued in order; results are ready for the host after download() or synchronize().
/// Results do not depend on the number of threads.
class Device {
 public:
  virtual ~Device() = default;

  /// A line for people: the kind of device, its model, instruction set or compute capability.
  virtual std::string description() const = 0;
  virtual DType activation_type() const = 0;

  /// Bytes that can still be taken, as far as the system tells.
  virtual std::size_t free_memory() const = 0;
  /// Most bytes that were in use at a time: of the process where memory is the host's.
  virtual std::size_t peak_memory() const = 0;
  /// Counts the peak from here on, where that is possible.
  virtual void reset_peak_memory() {}
  /// Whether the host may read and write the device's memory: nothing needs to be moved there.
  virtual bool shares_host_memory() const = 0;
  /// Rows that are worth being computed together by linear layers: callers bound their buffers so.
  virtual std::int64_t row_chunk() const = 0;
  /// Uninitialised memory. Throws Error with the number of bytes where there is not enough.
  virtual Tensor empty(DType type, Shape shape) = 0;
  virtual void upload(const void* host, const View& to) = 0;
  virtual void download(const View& from, void* host) = 0;
  virtual void synchronize() = 0;
  virtual std::unique_ptr<TimeStamp> now() = 0;
  /// Measures now; takes a second or two.
  virtual DeviceCeilings ceilings() = 0;
  /// Issues `work`, which must neither allocate nor wait nor download, and keeps it for later.
  /// Where nothing is gained by that, the work itself is done again.
  virtual std::unique_ptr<Recording> record(std::function<void()> work);

  /// out[i] = table[ids[i]].  ids (n) int32, table (V, H), out (n, H) float32
  virtual void embed(const View& ids, const View& table, const View& out) = 0;
  /// out = x / rms(x) * weight.  x (n, H) float32 or as out, weight (H) float32, out (n, H)
  virtual void rms_norm(const View& x, const View& weight, float epsilon, const View& out) = 0;
  /// out = x * weight^T, or out += x * weight^T.
  /// x (n, K), weight (M, K), out (n, M) float32 or as x
  enum class Store { overwrite, accumulate };
  virtual void linear(const View& x, const Matrix& weight, const View& out, Store store) = 0;
  /// out = (x / rms(x) * norm) * weight^T.  scratch (n, K), may be overwritten
  virtual void norm_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                           const View& out, const View& scratch);
  /// The first half of an MLP: out = silu(gate) * up, both from the normalised x.
  /// weight (2 I, K), out (n, I), scratch (n, K) and gate_up (n, 2 I): may be overwritten
  virtual void norm_gated_linear(const View& x, const View& norm, float epsilon,
                                 const Matrix& weight, const View& out, const View& scratch,
                                 const View& gate_up);
  /// Adds bias (M) float32 to every row of x (n, M).
  virtual void add_bias(const View& x, const View& bias) = 0;
  /// The first `rotated` heads of each row with their rotary embedding, halves paired (x[i],
  /// x[i + D/2]), the other heads as they are.
  /// x (n, heads, D) float32 or as out, positions (n) int32, frequencies (D / 2) float32; out (n,
  /// heads, D), may be x
  virtual void rope(const View& x, std::int64_t rotated, const View& positions,
                    const View& frequencies, const View& out) = 0;
  /// Exact causal attention over cached entries and the rows themselves, flash-style: memory
  /// linear in the number of keys.
  virtual void attention(const AttentionArgs& args) = 0;
  /// out = silu(gate) * up.  gate_up (n, 2 I): gate first; out (n, I)
  virtual void swiglu(const View& gate_up, const View& out) = 0;

  /// Appends rows of k and v to every head of a cached layer, whose pages exist already, and
  /// advances its lengths. Head h takes KV head h / (C / Hkv).
  /// k, v (n, Hkv, D); positions (n); chosen: (C, count) int32 rows, or empty: [first, first +
  /// count) for all heads
  struct StoreArgs {
    View k, v, positions;
    View chosen;
    std::int64_t first = 0;
    std::int64_t count = 0;
    CachedLayer cache;
  };
  virtual void store(std::span<const StoreArgs> sequences, const PageLayout& layout) = 0;

  /// rope() where the frequencies are given, attention(), then store(): a step of decoding, in
  /// which each segment has one row and each row is stored.
  virtual void attention_and_store(const AttentionArgs& args, std::span<const StoreArgs> stores);

  virtual void column_sums(const ColumnSumArgs& args) = 0;
  /// out[0, j] = sum over query heads of q[last row, h] . k[j, h / g].  q, k as above; out (1, n)
  virtual void last_query_dots(const View& q, const View& k, const View& out) = 0;
  /// Pools each row along its first `columns` columns, stride 1, same length; the border of an
  /// average counts as zeros, of a maximum as minus infinity.  scores, out (rows, n)
  virtual void pool(const View& scores, std::int64_t columns, int kernel, Pooling pooling,
                    const View& out) = 0;
  /// out[r] = sum of rows [r * group, (r + 1) * group).  scores (rows, n), out (rows / group, n)
  virtual void sum_groups(const View& scores, std::int64_t group, const View& out) = 0;
  /// Chooses `count` of n columns in each row: the first `first`, the last `recent`, and of those
  /// between them the highest scores, the lower column first where scores are equal.
  /// scores (rows, n) float32; out (rows, count) int32, ascending
  virtual void top_k(const View& scores, std::int64_t count, std::int64_t first,
                     std::int64_t recent, const View& out) = 0;
  /// out[i] = x[rows[i]].  x (n, ...), rows (m) int32, out (m, ...)
  virtual void gather_rows(const View& x, const View& rows, const View& out) = 0;
  /// The column of each row's highest value, the lowest such column.
  /// x (n, V) float32, out (n) int32
  virtual void argmax(const View& x, const View& out) = 0;
  /// Draws a token from each row, as draw_token() of draw.h does.
  /// logits (n, V) float32; settings (n, draw_ints) int32, contiguous: each row a DrawSettings;
  /// out (n) int32
  static constexpr std::int64_t draw_ints = sizeof(DrawSettings) / sizeof(std::int32_t);
  virtual void draw(const View& logits, const View& settings, const View& out) = 0;
};

/// The processor, with `threads` threads (0: all cores). Computes in float32 whatever the weights
/// are stored in; `fast_bf16` lets matrix products of bfloat16 weights use bfloat16 instructions
/// where the processor has them.
struct CpuOptions {
  int threads = 0;
  bool fast_bf16 = true;
};
std::unique_ptr<Device> make_cpu_device(const CpuOptions& options);

/// A graphics processor of NVIDIA's. Activations are of `activations`: bf16, or f32 to verify.
struct CudaOptions {
  int ordinal = 0;
  DType activations = DType::bf16;
};
/// Throws Error with the reason where there is none, or the build has no CUDA.
std::unique_ptr<Device> make_cuda_device(const CudaOptions& options);
/// Whether make_cuda_device() can succeed.
bool has_cuda_device();

}  // namespace fastkv
