#pragma once

#include <map>
#include <string>

#include "ops/device.h"

namespace fastkv {

/// Passes every operation on to another device and adds up time and work by operation. Waits for
/// each one to finish, so it is for profiles, not for serving.
class TimedDevice final : public Device {
 public:
  struct Total {
    std::int64_t calls = 0;
    double seconds = 0.0;
    double flops = 0.0;  // of matrix products and attention; 0 for the rest
    double bytes = 0.0;  // inputs read and results written once
  };
  explicit TimedDevice(Device& device) : device_(device) {}
  const std::map<std::string, Total>& totals() const { return totals_; }

  std::string description() const override { return device_.description(); }
  DType activation_type() const override { return device_.activation_type(); }
  std::size_t free_memory() const override { return device_.free_memory(); }
  std::size_t peak_memory() const override { return device_.peak_memory(); }
  void reset_peak_memory() override { device_.reset_peak_memory(); }
  bool shares_host_memory() const override { return device_.shares_host_memory(); }
  std::int64_t row_chunk() const override { return device_.row_chunk(); }
  Tensor empty(DType type, Shape shape) override { return device_.empty(type, shape); }
  void upload(const void* host, const View& to) override { device_.upload(host, to); }
  void download(const View& from, void* host) override { device_.download(from, host); }
  void synchronize() override { device_.synchronize(); }
  std::unique_ptr<TimeStamp> now() override { return device_.now(); }
  DeviceCeilings ceilings() override { return device_.ceilings(); }

  void embed(const View& ids, const View& table, const View& out) override;
  void rms_norm(const View& x, const View& weight, float epsilon, const View& out) override;
  void linear(const View& x, const Matrix& weight, const View& out, Store store) override;
  void norm_gated_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                         const View& out, const View& scratch, const View& gate_up) override;
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
  template <class Work>
  void timed(const std::string& name, double flops, double bytes, const Work& work);

  Device& device_;
  std::map<std::string, Total> totals_;
};

}  // namespace fastkv
