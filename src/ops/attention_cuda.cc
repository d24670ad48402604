// Which kernel attends what.

#include <algorithm>
#include <vector>

#include "ops/attention_any_cuda.h"
#include "ops/attention_decode_cuda.h"
#include "ops/attention_prompt_cuda.h"
#include "ops/column_sums_cuda.h"
#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

/// Sizes that the tensor core kernels are made for.
bool suits_tensor_cores(const View& q, const View& k) {
  const std::int64_t dim = q.shape[2];
  return q.type == DType::bf16 && (dim == 64 || dim == 96 || dim == 128) && cuda::on_16_bytes(q) &&
         cuda::on_16_bytes(k);
}

}  // namespace

bool CudaDevice::attend_prompt(const AttentionArgs& a) {
  // One fresh prompt: everything else has few rows.
  if (a.segments.size() != 1 || a.segments[0].cached.heads > 0) return false;
  if (!suits_tensor_cores(a.q, a.k) || !cuda::on_16_bytes(a.v) || !cuda::on_16_bytes(a.out))
    return false;
  if (a.log_sum_exp && a.log_sum_exp.row_stride != a.q.shape[1]) return false;
  const AttentionSegment& s = a.segments[0];
  const auto rows = [&](const View& view) {
    return reinterpret_cast<__nv_bfloat16*>(view.row_bytes(s.first_row));
  };
  const cuda::PromptAttentionArgs args{
      .q = rows(a.q),
      .k = rows(a.k),
      .v = rows(a.v),
      .q_stride = a.q.row_stride,
      .k_stride = a.k.row_stride,
      .v_stride = a.v.row_stride,
      .positions = static_cast<const std::int32_t*>(a.positions.data) + s.first_row,
      .n = s.rows,
      .query_heads = a.q.shape[1],
      .kv_heads = a.k.shape[1],
      .head_dim = a.q.shape[2],
      .sliding_window = a.sliding_window,
      .out = rows(a.out),
      .out_stride = a.out.row_stride,
      .log_sum_exp = a.log_sum_exp ? a.log_sum_exp.row<float>(s.first_row) : nullptr};
  if (hopper() && cuda::prompt_attention_sm90_supports(args)) {
    cuda::prompt_attention_sm90(args, stream());
  } else {
    cuda::prompt_attention_sm80(args, stream());
  }
  return true;
}

namespace {

/// What the kernel for decoding takes, given one-row segments with a cache.
bool attention_steps_fit(const AttentionArgs& a) {
  return suits_tensor_cores(a.q, a.k) && a.q.shape[2] != 96 && cuda::on_16_bytes(a.v) &&
         cuda::on_16_bytes(a.out) && a.layout.type == DType::bf16 &&
         a.layout.page_tokens % 16 == 0 && !a.log_sum_exp && a.q.shape[1] / a.k.shape[1] <= 16;
}
bool is_step(const AttentionSegment& s) { return s.rows == 1 && s.cached.heads > 0; }

}  // namespace

void CudaDevice::attend_steps(const AttentionArgs& a, std::vector<AttentionSegment> steps,
                              bool append) {
  // Sequences whose caches have the same number of heads go together.
  while (!steps.empty()) {
    const std::int64_t heads = steps.front().cached.heads;
    const std::int64_t most =
        std::clamp<std::int64_t>(decode_tickets_.shape()[0] / heads, 1, cuda::decode_group);
    std::vector<AttentionSegment> group, rest;
    for (const AttentionSegment& s : steps) {
      const bool joins = s.cached.heads == heads && static_cast<std::int64_t>(group.size()) < most;
      (joins ? group : rest).push_back(s);
    }
    cuda::attend_steps(a, group, append,
                       {.partials = decode_partials_.as<float>(),
                        .partial_count = decode_partials_.shape()[0],
                        .tickets = decode_tickets_.as<std::int32_t>(),
                        .ticket_count = decode_tickets_.shape()[0]},
                       stream());
    steps = std::move(rest);
  }
}

void CudaDevice::attention(const AttentionArgs& args) {
  if (attend_prompt(args)) return;
  const bool fit = attention_steps_fit(args);
  std::vector<AttentionSegment> steps, others;
  for (const AttentionSegment& s : args.segments) (fit && is_step(s) ? steps : others).push_back(s);
  attend_steps(args, std::move(steps), false);
  cuda::attend_any(args, others, stream());
}

void CudaDevice::attention_and_store(const AttentionArgs& args, std::span<const StoreArgs> stores) {
  const bool all =
      attention_steps_fit(args) && std::all_of(args.segments.begin(), args.segments.end(), is_step);
  if (all) {
    attend_steps(args, {args.segments.begin(), args.segments.end()}, true);
  } else {
    Device::attention_and_store(args, stores);
  }
}

void CudaDevice::column_sums(const ColumnSumArgs& a) {
  const std::int64_t n = a.q.rows(), heads = a.q.shape[1];
  if (n == 0) return;
  Tensor weights;
  if (!a.row_weights.empty()) {
    weights = empty(DType::f32, {a.rows});
    upload(a.row_weights.data(), weights);
  }
  const float* row_weights = weights ? weights.as<float>() : nullptr;
  if (a.log_sum_exp && a.log_sum_exp.row_stride == heads && suits_tensor_cores(a.q, a.k)) {
    cuda::column_sums_mma({.q = static_cast<const __nv_bfloat16*>(a.q.data),
                           .k = static_cast<const __nv_bfloat16*>(a.k.data),
                           .q_stride = a.q.row_stride,
                           .k_stride = a.k.row_stride,
                           .positions = static_cast<const std::int32_t*>(a.positions.data),
                           .n = n,
                           .query_heads = heads,
                           .kv_heads = a.k.shape[1],
                           .head_dim = a.q.shape[2],
                           .rows = a.rows,
                           .row_weights = row_weights,
                           .sliding_window = a.sliding_window,
                           .log_sum_exp = static_cast<const float*>(a.log_sum_exp.data),
                           .out = static_cast<float*>(a.out.data),
                           .out_stride = a.out.row_stride},
                          stream());
    return;
  }
  if (a.log_sum_exp) {
    cuda::any_column_sums(a, a.log_sum_exp.row<float>(n - a.rows), a.log_sum_exp.row_stride,
                          row_weights, stream());
    return;
  }
  const Tensor log_sum_exp = empty(DType::f32, {a.rows, heads});
  cuda::any_log_sum_exp(a, log_sum_exp.as<float>(), stream());
  cuda::any_column_sums(a, log_sum_exp.as<float>(), heads, row_weights, stream());
}

}  // namespace fastkv
