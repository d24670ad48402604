#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ops/device.h"

namespace fastkv {

/// A device's stream and the bytes taken from it; shared by everything that may outlive the device
/// object, such as tensors.
struct CudaMemory {
  explicit CudaMemory(int ordinal);
  ~CudaMemory();
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  int ordinal;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  std::size_t in_use = 0;
  std::size_t peak = 0;
};

/// The graphics processor, from compute capability 8.0. One stream, everything in order.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaOptions& options);
  ~CudaDevice() override;

  std::string description() const override { return description_; }
  DType activation_type() const override { return activation_type_; }
  std::size_t free_memory() const override;
  std::size_t peak_memory() const override { return memory_->peak; }
  void reset_peak_memory() override { memory_->peak = memory_->in_use; }
  bool shares_host_memory() const override { return false; }
  std::int64_t row_chunk() const override { return 8192; }
  Tensor empty(DType type, Shape shape) override;
  void upload(const void* host, const View& to) override;
  void download(const View& from, void* host) override;
  void synchronize() override;
  std::unique_ptr<TimeStamp> now() override;
  DeviceCeilings ceilings() override;
  std::unique_ptr<Recording> record(std::function<void()> work) override;

  void embed(const View& ids, const View& table, const View& out) override;
  void rms_norm(const View& x, const View& weight, float epsilon, const View& out) override;
  void linear(const View& x, const Matrix& weight, const View& out, Store store) override;
  void norm_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                   const View& out, const View& scratch) override;
  void norm_gated_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                         const View& out, const View& scratch, const View& gate_up) override;
  void add_bias(const View& x, const View& bias) override;
  void rope(const View& x, std::int64_t rotated, const View& positions, const View& frequencies,
            const View& out) override;
  void attention(const AttentionArgs& args) override;
  void swiglu(const View& gate_up, const View& out) override;
  void store(std::span<const StoreArgs> sequences, const PageLayout& layout) override;
  void attention_and_store(const AttentionArgs& args, std::span<const StoreArgs> stores) override;
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
  /// A matrix product as cuBLASLt sees it.
  using ProductKey = std::array<std::int64_t, 9>;
  void library_product(const View& x, const View& weight, const View& out, Store store);
  cublasLtMatmulAlgo_t choose_algorithm(const ProductKey& key, cublasLtMatmulDesc_t operation,
                                        cublasLtMatrixLayout_t weight_layout,
                                        cublasLtMatrixLayout_t x_layout,
                                        cublasLtMatrixLayout_t out_layout, const View& x,
                                        const View& weight, const View& out);
  bool attend_prompt(const AttentionArgs& args);
  /// Attends one-row segments that the fast kernel can take (attention_steps_fit()).
  void attend_steps(const AttentionArgs& args, std::vector<AttentionSegment> steps, bool append);

  /// Contiguous and small enough for a slot of pinned memory.
  static bool is_small(const View& view);

  bool hopper() const { return capability_ == 90; }
  cudaStream_t stream() const { return memory_->stream; }

  std::shared_ptr<CudaMemory> memory_;
  DType activation_type_;
  int capability_ = 0;  // e.g. 90
  std::string description_;
  bool recording_ = false;

  static constexpr std::int64_t staging_slot = 4096;  // bytes
  static constexpr int staging_slots = 512;
  std::byte* staging_ = nullptr;     // pinned: slots for small uploads
  std::byte* downloaded_ = nullptr;  // and one for small downloads
  int staging_next_ = 0;

  cublasLtHandle_t blas_ = nullptr;
  Tensor blas_workspace_;
  std::map<ProductKey, cublasLtMatmulAlgo_t> algorithms_;
  Tensor decode_partials_;  // float32, of split attention
  Tensor decode_tickets_;   // int32, zero between launches
};

}  // namespace fastkv
