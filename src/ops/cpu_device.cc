#include "ops/cpu_device.h"

#include <fmt/core.h>
#include <omp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "ops/ceilings.h"
#include "ops/elementwise_kernels.h"
#include "ops/gemm.h"

namespace fastkv {
namespace {

class CpuTimeStamp final : public TimeStamp {
 public:
  double seconds_since(const TimeStamp& earlier) const override {
    return std::chrono::duration<double>(at_ - static_cast<const CpuTimeStamp&>(earlier).at_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

std::size_t row_bytes(const View& view) {
  if (view.rows() == 0) return 0;
  return static_cast<std::size_t>(view.shape.count() / view.rows()) * size_of(view.type);
}

}  // namespace

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

CpuDevice::CpuDevice(const CpuOptions& options)
    : threads_(options.threads > 0 ? options.threads : omp_get_num_procs()),
      fast_bf16_(options.fast_bf16),
      thread_scratch_(static_cast<std::size_t>(threads_)) {}

std::string CpuDevice::description() const {
  return fmt::format("CPU, {}{}, {} threads", simd_target_name(),
                     has_bf16_gemm() && fast_bf16_ ? ", bfloat16 products" : "", threads_);
}

int CpuDevice::threads_for(std::int64_t work) const {
  constexpr std::int64_t steps_worth_a_thread = 16 * 1024;
  return work < steps_worth_a_thread ? 1 : threads_;
}

std::span<Scratch> CpuDevice::thread_scratch(std::size_t bytes) {
  for (Scratch& scratch : thread_scratch_) scratch.reserve(bytes);
  return thread_scratch_;
}

std::size_t CpuDevice::free_memory() const {
  // What Linux thinks it can give without swapping; elsewhere all that is installed.
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) * 1024;
  }
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t CpuDevice::peak_memory() const {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

DeviceCeilings CpuDevice::ceilings() {
  const double gemm = gemm_flops_per_second(fast_bf16_ ? DType::bf16 : DType::f32, threads_);
  return {gemm, gemm, read_bytes_per_second(threads_)};  // attention is products as well
}

std::unique_ptr<TimeStamp> CpuDevice::now() { return std::make_unique<CpuTimeStamp>(); }

Tensor CpuDevice::empty(DType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.count()) * size_of(type);
  std::shared_ptr<void> memory = allocate_aligned(bytes);
  void* address = memory.get();
  return Tensor(address, type, shape, [memory](void*) mutable { memory.reset(); });
}

void CpuDevice::upload(const void* host, const View& to) {
  const std::size_t bytes = row_bytes(to);
  if (bytes == 0) return;  // an empty array may have no address
  for (std::int64_t i = 0; i < to.rows(); ++i) {
    std::memcpy(to.row_bytes(i), static_cast<const std::byte*>(host) + i * bytes, bytes);
  }
}

void CpuDevice::download(const View& from, void* host) {
  const std::size_t bytes = row_bytes(from);
  if (bytes == 0) return;
  for (std::int64_t i = 0; i < from.rows(); ++i) {
    std::memcpy(static_cast<std::byte*>(host) + i * bytes, from.row_bytes(i), bytes);
  }
}

}  // namespace fastkv
