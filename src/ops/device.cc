#include "ops/device.h"

#include <utility>

namespace fastkv {
namespace {

class Repeated final : public Recording {
 public:
  explicit Repeated(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

std::unique_ptr<Recording> Device::record(std::function<void()> work) {
  work();
  return std::make_unique<Repeated>(std::move(work));
}

void Device::norm_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                         const View& out, const View& scratch) {
  rms_norm(x, norm, epsilon, scratch);
  linear(scratch, weight, out, Store::overwrite);
}

void Device::norm_gated_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                               const View& out, const View& scratch, const View& gate_up) {
  rms_norm(x, norm, epsilon, scratch);
  linear(scratch, weight, gate_up, Store::overwrite);
  swiglu(gate_up, out);
}

void Device::attention_and_store(const AttentionArgs& args, std::span<const StoreArgs> stores) {
  if (args.rope_frequencies) {
    for (const View& x : {args.q, args.k})
      rope(x, x.shape[1], args.positions, args.rope_frequencies, x);
  }
  attention(args);
  store(stores, args.layout);
}

}  // namespace fastkv
