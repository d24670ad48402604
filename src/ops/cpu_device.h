#pragma once

#include <span>
#include <string>
#include <vector>

#include "ops/device.h"
#include "ops/scratch.h"

namespace fastkv {

/// The processor. One file an operation: linear_cpu.cc, attention_cpu.cc, ...
/// Not safe for calls from several threads at once: scratch memory is shared between calls.
class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options);

  std::string description() const override;
  DType activation_type() const override { return DType::f32; }

  std::size_t free_memory() const override;
  std::size_t peak_memory() const override;
  bool shares_host_memory() const override { return true; }
  // The MLP's inner activations are the widest of all: more rows would leave the caches.
  std::int64_t row_chunk() const override { return 1024; }
  Tensor empty(DType type, Shape shape) override;
  void upload(const void* host, const View& to) override;
  void download(const View& from, void* host) override;
  void synchronize() override {}
  std::unique_ptr<TimeStamp> now() override;
  DeviceCeilings ceilings() override;

  void embed(const View& ids, const View& table, const View& out) override;
  void rms_norm(const View& x, const View& weight, float epsilon, const View& out) override;
  void linear(const View& x, const Matrix& weight, const View& out, Store store) override;
  void add_bias(const View& x, const View& bias) override;
  void rope(const View& x, std::int64_t rotated, const View& positions, const View& frequencies,
            const View& out) override;
  void attention(const AttentionArgs& args) override;
  void swiglu(const View& gate_up, const View& out) override;
  void store(std::span<const StoreArgs> sequences, const PageLayout& layout) override;
  void column_sums(const ColumnSumArgs& args) override;
  void last_query_dots(const View& q, const View& k, const View& out) override;
  void pool(const View& scores, std::int64_t columns, int kernel, Pooling pooling,
            const View& out) override;
  void sum_groups(const View& scores, std::int64_t group, const View& out) override;
  void top_k(const View& scores, std::int64_t count, std::int64_t first, std::int64_t recent,
             const View& out) override;
  void gather_rows(const View& x, const View& rows, const View& out) override;
  void argmax(const View& x, const View& out) override;
  void draw(const View& logits, const View& settings, const View& out) override;

 private:
  /// Threads worth starting for about `work` elementary steps: starting them costs microseconds.
  int threads_for(std::int64_t work) const;
  /// One buffer of at least `bytes` for each thread; task bodies index it by their thread.
  std::span<Scratch> thread_scratch(std::size_t bytes);

  int threads_;
  bool fast_bf16_;
  std::vector<Scratch> thread_scratch_;  // (threads)
  Scratch shared_scratch_;
};

}  // namespace fastkv
