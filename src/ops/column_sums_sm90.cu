#include "ops/column_sums_sm90.h"
#include "ops/column_sums_sm90_kernel.cuh"

namespace fastkv::cuda {

namespace {

template <int kHeadDim, bool kWeighted, bool kWindow>
void launch(const ColumnSumsArgs& args, cudaStream_t stream) {
  constexpr int kStages = kHeadDim == 64 ? 6 : 4;
  launch_column_sums_sm90<ColumnSumsConfig<kHeadDim, 3, 64, kStages, kWeighted, kWindow>>(args,
                                                                                          stream);
}

template <int kHeadDim>
void launch(const ColumnSumsArgs& args, cudaStream_t stream) {
  const bool window = args.sliding_window > 0;
  if (args.row_weights != nullptr) {
    window ? launch<kHeadDim, true, true>(args, stream)
           : launch<kHeadDim, true, false>(args, stream);
  } else {
    window ? launch<kHeadDim, false, true>(args, stream)
           : launch<kHeadDim, false, false>(args, stream);
  }
}

}  // namespace

bool column_sums_sm90_pays(const ColumnSumsArgs& args) {
  int device = 0;
  int major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "compute capability");
  constexpr std::int64_t full_tile = 128;  // of queries
  return major == 9 && args.rows >= full_tile && args.n < (1 << 30) &&
         (args.head_dim == 64 || args.head_dim == 128) && rows_on_16_bytes(args.q, args.q_stride) &&
         rows_on_16_bytes(args.k, args.k_stride);
}

void column_sums_sm90(const ColumnSumsArgs& args, cudaStream_t stream) {
  args.head_dim == 64 ? launch<64>(args, stream) : launch<128>(args, stream);
}

}  // namespace fastkv::cuda
