#include <cassert>

#include "ops/attention_parts_cpu.h"
#include "ops/cpu_device.h"

namespace fastkv {

void CpuDevice::attention(const AttentionArgs& args) {
  const std::int64_t dim = args.q.shape[2];
  assert(args.q.shape[1] % args.k.shape[1] == 0);
  std::vector<AttentionUnit> prompts, decodes;
  for (const AttentionSegment& segment : args.segments) {
    const bool few = segment.rows <= max_decode_rows && dim % decode_dim_step == 0;
    std::vector<AttentionUnit>& chosen = few ? decodes : prompts;
    const std::vector<AttentionUnit> units = attention_units(args, segment);
    chosen.insert(chosen.end(), units.begin(), units.end());
  }
  if (!prompts.empty()) attend_prompt(args, prompts, threads_, shared_scratch_, thread_scratch_);
  if (!decodes.empty()) attend_decode(args, decodes, threads_, shared_scratch_);
}

}  // namespace fastkv
