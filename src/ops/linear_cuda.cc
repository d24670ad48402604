// Matrix products: up to eight rows by our own kernel, more through cuBLASLt, odd ones by a plain
// kernel.

#include "ops/linear_cuda.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <vector>

#include "core/error.h"
#include "ops/cuda_device.h"
#include "ops/cuda_support.h"
#include "ops/few_rows_cuda.h"

namespace fastkv {
namespace {

void check_blas(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("cuBLASLt failed: status {} in {}", int{status}, call);
}
#define FASTKV_BLAS(call) check_blas((call), #call)

/// Descriptors of cuBLASLt, destroyed with their owner.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) (void)destroy(handle);
  }
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t data_type(DType type) { return type == DType::f32 ? CUDA_R_32F : CUDA_R_16BF; }

bool library_takes(const View& x, const View& weight, const View& out) {
  const bool types = x.type == weight.type &&
                     (x.type == DType::f32 ? out.type == DType::f32 : x.type == DType::bf16) &&
                     (out.type == DType::f32 || out.type == DType::bf16);
  return types && cuda::on_16_bytes(x) && cuda::on_16_bytes(weight) && cuda::on_16_bytes(out) &&
         x.shape[1] % 8 == 0 && weight.rows() % 8 == 0;
}

constexpr float one = 1.0F, zero = 0.0F;

}  // namespace

void CudaDevice::linear(const View& x, const Matrix& weight, const View& out, Store store) {
  if (x.rows() == 0) return;
  const bool accumulate = store == Store::accumulate;
  if (cuda::few_rows_product_fits(x, weight, out, false)) {
    cuda::few_rows_product({.x = x,
                            .weight = weight.part[0],
                            .out = out,
                            .norm = {},
                            .epsilon = 0,
                            .kind = accumulate ? cuda::FewRows::accumulate : cuda::FewRows::store},
                           stream());
    return;
  }
  std::int64_t column = 0;
  for (int i = 0; i < weight.parts; ++i) {
    const View& part = weight.part[static_cast<std::size_t>(i)];
    View to = out;
    to.data = out.row_bytes(0) + static_cast<std::size_t>(column) * size_of(out.type);
    to.shape = Shape{out.rows(), part.rows()};
    if (library_takes(x, part, to)) {
      library_product(x, part, to, store);
    } else {
      cuda::any_product(x, part, to, accumulate, stream());
    }
    column += part.rows();
  }
}

void CudaDevice::library_product(const View& x, const View& weight, const View& out, Store store) {
  // cuBLAS counts by columns: out^T (M, n) = W (M, K) x^T (K, n), where a row-major matrix is the
  // transpose of a column-major one.
  const std::int64_t n = x.rows(), k = x.shape[1], m = weight.rows();
  const ProductKey key = {m,
                          n,
                          k,
                          weight.row_stride,
                          x.row_stride,
                          out.row_stride,
                          static_cast<std::int64_t>(x.type),
                          static_cast<std::int64_t>(out.type),
                          static_cast<std::int64_t>(store)};
  Operation operation;
  FASTKV_BLAS(cublasLtMatmulDescCreate(&operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  FASTKV_BLAS(cublasLtMatmulDescSetAttribute(operation.handle, CUBLASLT_MATMUL_DESC_TRANSA,
                                             &transposed, sizeof transposed));
  Layout weight_layout, x_layout, out_layout;
  const auto rows = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  FASTKV_BLAS(cublasLtMatrixLayoutCreate(&weight_layout.handle, data_type(weight.type), rows(k),
                                         rows(m), weight.row_stride));
  FASTKV_BLAS(cublasLtMatrixLayoutCreate(&x_layout.handle, data_type(x.type), rows(k), rows(n),
                                         x.row_stride));
  FASTKV_BLAS(cublasLtMatrixLayoutCreate(&out_layout.handle, data_type(out.type), rows(m), rows(n),
                                         out.row_stride));
  auto found = algorithms_.find(key);
  if (found == algorithms_.end()) {
    if (algorithms_.size() > 4096) algorithms_.clear();
    found = algorithms_
                .emplace(key, choose_algorithm(key, operation.handle, weight_layout.handle,
                                               x_layout.handle, out_layout.handle, x, weight, out))
                .first;
  }
  const float* beta = store == Store::accumulate ? &one : &zero;
  FASTKV_BLAS(cublasLtMatmul(blas_, operation.handle, &one, weight.data, weight_layout.handle,
                             x.data, x_layout.handle, beta, out.data, out_layout.handle, out.data,
                             out_layout.handle, &found->second, blas_workspace_.view().data,
                             blas_workspace_.bytes(), stream()));
}

cublasLtMatmulAlgo_t CudaDevice::choose_algorithm(const ProductKey& key,
                                                  cublasLtMatmulDesc_t operation,
                                                  cublasLtMatrixLayout_t weight_layout,
                                                  cublasLtMatrixLayout_t x_layout,
                                                  cublasLtMatrixLayout_t out_layout, const View& x,
                                                  const View& weight, const View& out) {
  Preference preference;
  FASTKV_BLAS(cublasLtMatmulPreferenceCreate(&preference.handle));
  const std::size_t workspace = blas_workspace_.bytes();
  FASTKV_BLAS(cublasLtMatmulPreferenceSetAttribute(
      preference.handle, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
  // Full chunks of a prompt come again and again: they are worth trying each candidate. Without
  // split sums every algorithm adds in the order of K: which one is the fastest today does not
  // change results. Other products take the first candidate, which may split K: a few rows have too
  // few tiles for all multiprocessors.
  const bool tries = !recording_ && x.rows() == row_chunk();
  const std::uint32_t splits =
      tries ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  FASTKV_BLAS(cublasLtMatmulPreferenceSetAttribute(
      preference.handle, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &splits, sizeof splits));
  constexpr int wanted = 12;
  std::vector<cublasLtMatmulHeuristicResult_t> results(wanted);
  int count = 0;
  FASTKV_BLAS(cublasLtMatmulAlgoGetHeuristic(blas_, operation, weight_layout, x_layout, out_layout,
                                             out_layout, preference.handle, wanted, results.data(),
                                             &count));
  if (count == 0) {
    fail("cuBLASLt has no algorithm for a product of {} x {} with {} x {}", key[1], key[2], key[0],
         key[2]);
  }
  if (!tries) return results.front().algo;  // while operations are recorded nothing can be timed

  const Tensor trial = empty(out.type, {out.rows(), out.row_stride});
  int best = 0;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (int i = 0; i < count; ++i) {
    const auto run = [&] {
      return cublasLtMatmul(blas_, operation, &one, weight.data, weight_layout, x.data, x_layout,
                            &zero, trial.view().data, out_layout, trial.view().data, out_layout,
                            &results[static_cast<std::size_t>(i)].algo, blas_workspace_.view().data,
                            workspace, stream());
    };
    if (run() != CUBLAS_STATUS_SUCCESS) continue;
    constexpr int repeats = 3;
    const auto begin = now();
    for (int r = 0; r < repeats; ++r) FASTKV_BLAS(run());
    const auto end = now();
    synchronize();
    const double seconds = end->seconds_since(*begin) / repeats;
    if (seconds < best_seconds) {
      best_seconds = seconds;
      best = i;
    }
  }
  return results[static_cast<std::size_t>(best)].algo;
}

}  // namespace fastkv
