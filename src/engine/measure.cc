#include "fastkv/measure.h"

#include <algorithm>

#include "engine/state.h"
#include "ops/timed_device.h"

namespace fastkv {

/// Has access to what an engine hides.
struct Measure {
  static Ceilings ceilings(const Engine& engine) {
    const DeviceCeilings c = engine.state_->device->ceilings();
    return {c.gemm_flops, c.attention_flops, c.memory_bytes};
  }
  static std::vector<OperationTime> profile(Engine& engine, const std::function<void()>& work) {
    Engine::State& s = *engine.state_;
    auto inner = std::move(s.device);
    auto timed = std::make_unique<TimedDevice>(*inner);
    const TimedDevice& totals = *timed;
    // A decoder keeps the device that it was made for.
    s.decoder.reset();
    s.device = std::move(timed);
    const auto restore = [&] {
      s.decoder.reset();
      s.device = std::move(inner);
    };
    try {
      work();
    } catch (...) {
      restore();
      throw;
    }
    std::vector<OperationTime> rows;
    for (const auto& [name, t] : totals.totals())
      rows.push_back({name, t.calls, t.seconds, t.flops, t.bytes});
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    restore();
    return rows;
  }
};

Ceilings measure_ceilings(const Engine& engine) { return Measure::ceilings(engine); }

std::vector<OperationTime> profile(Engine& engine, const std::function<void()>& work) {
  return Measure::profile(engine, work);
}

}  // namespace fastkv
