#include "ops/attention_prompt_sm90_kernel.cuh"

namespace fastkv::cuda {

namespace {

/// Key/value heads to work on at a time, so that their keys and values stay in L2.
int heads_in_cache(const PromptAttentionArgs& args) {
  constexpr std::int64_t bytes = 24 << 20;
  return static_cast<int>(std::max<std::int64_t>(1, bytes / (args.n * args.head_dim * 4)));
}

template <int kHeadDim, int kKeys, int kGroups, int kStages>
void launch(const PromptAttentionArgs& args, cudaStream_t stream) {
  if (args.sliding_window > 0) {
    launch_prompt_attention_sm90<Sm90Config<kHeadDim, kKeys, kGroups, kStages, true>>(
        args, heads_in_cache(args), stream);
  } else {
    launch_prompt_attention_sm90<Sm90Config<kHeadDim, kKeys, kGroups, kStages, false>>(
        args, heads_in_cache(args), stream);
  }
}

}  // namespace

bool prompt_attention_sm90_supports(const PromptAttentionArgs& args) {
  return (args.head_dim == 64 || args.head_dim == 128) && args.n > 0 && args.n < (1 << 30) &&
         args.query_heads % args.kv_heads == 0 && rows_on_16_bytes(args.q, args.q_stride) &&
         rows_on_16_bytes(args.k, args.k_stride) && rows_on_16_bytes(args.v, args.v_stride) &&
         rows_on_16_bytes(args.out, args.out_stride);
}

void prompt_attention_sm90(const PromptAttentionArgs& args, cudaStream_t stream) {
  if (args.head_dim == 128) {
    launch<128, 128, 2, 2>(args, stream);
  } else {
    launch<64, 128, 3, 4>(args, stream);
  }
}

}  // namespace fastkv::cuda
