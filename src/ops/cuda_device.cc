#include "ops/cuda_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <map>
#include <mutex>

#include "core/error.h"
#include "ops/cuda_support.h"
#include "ops/few_rows_cuda.h"
#include "ops/gated_product_sm90.h"

namespace fastkv {

namespace cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // or the next launch would report it again
  fail("the CUDA device reported an error: {} ({}), in {}", cudaGetErrorString(status),
       cudaGetErrorName(status), call);
}

namespace {
/// An attribute of the device in use, asked for once.
int attribute(cudaDeviceAttr which) {
  int device = 0;
  FASTKV_CUDA(cudaGetDevice(&device));
  static std::mutex mutex;
  static std::map<std::pair<int, cudaDeviceAttr>, int> known;
  const std::lock_guard lock(mutex);
  const auto [found, is_new] = known.try_emplace({device, which}, 0);
  if (is_new) FASTKV_CUDA(cudaDeviceGetAttribute(&found->second, which, device));
  return found->second;
}
}  // namespace

int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }
std::size_t shared_limit() {
  return static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

void refuse(const std::string& sentence) { fail("{}", sentence); }

}  // namespace cuda

namespace {

constexpr std::size_t blas_workspace_bytes = std::size_t{32} << 20;
constexpr std::size_t decode_partial_bytes = std::size_t{16} << 20;
constexpr std::int64_t decode_ticket_count = 16384;

class CudaTimeStamp final : public TimeStamp {
 public:
  explicit CudaTimeStamp(cudaStream_t stream) {
    FASTKV_CUDA(cudaEventCreate(&event_));
    FASTKV_CUDA(cudaEventRecord(event_, stream));
  }
  ~CudaTimeStamp() override { (void)cudaEventDestroy(event_); }
  double seconds_since(const TimeStamp& earlier) const override {
    float milliseconds = 0;
    FASTKV_CUDA(cudaEventElapsedTime(&milliseconds,
                                     static_cast<const CudaTimeStamp&>(earlier).event_, event_));
    return milliseconds * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaGraph final : public Recording {
 public:
  CudaGraph(cudaGraphExec_t graph, std::shared_ptr<CudaMemory> memory)
      : graph_(graph), memory_(std::move(memory)) {}
  ~CudaGraph() override { (void)cudaGraphExecDestroy(graph_); }
  void replay() override { FASTKV_CUDA(cudaGraphLaunch(graph_, memory_->stream)); }

 private:
  cudaGraphExec_t graph_;
  std::shared_ptr<CudaMemory> memory_;
};

std::size_t row_bytes(const View& view) {
  if (view.rows() == 0) return 0;
  return static_cast<std::size_t>(view.shape.count() / view.rows()) * size_of(view.type);
}

}  // namespace

CudaMemory::CudaMemory(int device) : ordinal(device) {
  FASTKV_CUDA(cudaSetDevice(device));
  FASTKV_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  FASTKV_CUDA(cudaDeviceGetDefaultMemPool(&pool, device));
  // Memory that comes back stays with the process: the next layer asks for the same sizes.
  std::uint64_t everything = UINT64_MAX;
  FASTKV_CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &everything));
}

CudaMemory::~CudaMemory() {
  (void)cudaStreamSynchronize(stream);
  (void)cudaStreamDestroy(stream);
}

bool has_cuda_device() {
  int count = 0, major = 0;
  const bool found =
      cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess;
  (void)cudaGetLastError();
  return found && major >= 8;
}

std::unique_ptr<Device> make_cuda_device(const CudaOptions& options) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (status != cudaSuccess || count == 0) {
    fail("there is no CUDA device that this program can use ({}); use --device cpu",
         status == cudaSuccess ? "none found" : cudaGetErrorString(status));
  }
  return std::make_unique<CudaDevice>(options);
}

CudaDevice::CudaDevice(const CudaOptions& options)
    : memory_(std::make_shared<CudaMemory>(options.ordinal)),
      activation_type_(options.activations) {
  cudaDeviceProp properties{};
  FASTKV_CUDA(cudaGetDeviceProperties(&properties, options.ordinal));
  capability_ = 10 * properties.major + properties.minor;
  if (capability_ < 80) {
    fail("{} has compute capability {}.{}; fastkv needs 8.0 or above; use --device cpu",
         properties.name, properties.major, properties.minor);
  }
  description_ = fmt::format("CUDA, {}, compute capability {}.{}, {:.0f} GiB", properties.name,
                             properties.major, properties.minor,
                             static_cast<double>(properties.totalGlobalMem) / 0x1p30);
  FASTKV_CUDA(cudaMallocHost(reinterpret_cast<void**>(&staging_),
                             static_cast<std::size_t>(staging_slot * (staging_slots + 1))));
  downloaded_ = staging_ + staging_slot * staging_slots;
  if (cublasLtCreate(&blas_) != CUBLAS_STATUS_SUCCESS) fail("cuBLASLt could not be started");
  blas_workspace_ = empty(DType::f32, {static_cast<std::int64_t>(blas_workspace_bytes / 4)});
  decode_partials_ = empty(DType::f32, {static_cast<std::int64_t>(decode_partial_bytes / 4)});
  decode_tickets_ = empty(DType::i32, {decode_ticket_count});
  FASTKV_CUDA(cudaMemsetAsync(decode_tickets_.view().data, 0, decode_tickets_.bytes(), stream()));
}

CudaDevice::~CudaDevice() {
  (void)cudaStreamSynchronize(stream());
  if (blas_) (void)cublasLtDestroy(blas_);
  if (staging_) (void)cudaFreeHost(staging_);
}

std::size_t CudaDevice::free_memory() const {
  std::size_t free = 0, total = 0;
  FASTKV_CUDA(cudaMemGetInfo(&free, &total));
  std::uint64_t reserved = 0, used = 0;
  FASTKV_CUDA(cudaMemPoolGetAttribute(memory_->pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  FASTKV_CUDA(cudaMemPoolGetAttribute(memory_->pool, cudaMemPoolAttrUsedMemCurrent, &used));
  return free + static_cast<std::size_t>(reserved - used);
}

Tensor CudaDevice::empty(DType type, Shape shape) {
  assert(!recording_);
  const std::size_t bytes = static_cast<std::size_t>(shape.count()) * size_of(type);
  void* address = nullptr;
  const cudaError_t status = cudaMallocAsync(&address, std::max<std::size_t>(bytes, 256), stream());
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    fail(
        "the CUDA device has no room for {} more bytes ({:.1f} GiB are in use, {:.1f} GiB free); "
        "shorten the prompt, keep a smaller share of it, or choose a smaller model",
        bytes, static_cast<double>(memory_->in_use) / 0x1p30,
        static_cast<double>(free_memory()) / 0x1p30);
  }
  memory_->in_use += bytes;
  memory_->peak = std::max(memory_->peak, memory_->in_use);
  return Tensor(address, type, shape, [memory = memory_, bytes](void* data) {
    memory->in_use -= bytes;
    (void)cudaFreeAsync(data, memory->stream);
  });
}

bool CudaDevice::is_small(const View& view) {
  const auto bytes = static_cast<std::int64_t>(row_bytes(view)) * view.rows();
  return bytes <= staging_slot &&
         view.row_stride * view.rows() * static_cast<std::int64_t>(size_of(view.type)) == bytes;
}

void CudaDevice::upload(const void* host, const View& to) {
  const std::size_t width = row_bytes(to);
  if (width == 0) return;
  if (is_small(to)) {
    // Small copies from pinned memory neither wait nor make the device wait.
    const std::size_t bytes = static_cast<std::size_t>(to.rows()) * width;
    if (staging_next_ == staging_slots) {
      synchronize();  // before slots are used again
      staging_next_ = 0;
    }
    std::byte* slot = staging_ + static_cast<std::ptrdiff_t>(staging_slot) * staging_next_++;
    std::memcpy(slot, host, bytes);
    FASTKV_CUDA(cudaMemcpyAsync(to.data, slot, bytes, cudaMemcpyHostToDevice, stream()));
    return;
  }
  const std::size_t pitch = static_cast<std::size_t>(to.row_stride) * size_of(to.type);
  const auto rows = static_cast<std::size_t>(to.rows());
  if (pitch == width || rows == 1) {
    FASTKV_CUDA(cudaMemcpyAsync(to.data, host, rows * width, cudaMemcpyHostToDevice, stream()));
  } else {
    FASTKV_CUDA(cudaMemcpy2DAsync(to.data, pitch, host, width, width, rows, cudaMemcpyHostToDevice,
                                  stream()));
  }
}

void CudaDevice::download(const View& from, void* host) {
  const std::size_t width = row_bytes(from);
  if (width == 0) return;
  if (is_small(from)) {
    const std::size_t bytes = static_cast<std::size_t>(from.rows()) * width;
    FASTKV_CUDA(cudaMemcpyAsync(downloaded_, from.data, bytes, cudaMemcpyDeviceToHost, stream()));
    synchronize();
    std::memcpy(host, downloaded_, bytes);
    return;
  }
  const std::size_t pitch = static_cast<std::size_t>(from.row_stride) * size_of(from.type);
  FASTKV_CUDA(cudaMemcpy2DAsync(host, width, from.data, std::max(pitch, width), width,
                                static_cast<std::size_t>(from.rows()), cudaMemcpyDeviceToHost,
                                stream()));
  synchronize();
}

void CudaDevice::synchronize() {
  FASTKV_CUDA(cudaStreamSynchronize(stream()));
  staging_next_ = 0;
}

std::unique_ptr<TimeStamp> CudaDevice::now() { return std::make_unique<CudaTimeStamp>(stream()); }

std::unique_ptr<Recording> CudaDevice::record(std::function<void()> work) {
  FASTKV_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  recording_ = true;
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    recording_ = false;
    (void)cudaStreamEndCapture(stream(), &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    throw;
  }
  recording_ = false;
  FASTKV_CUDA(cudaStreamEndCapture(stream(), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  FASTKV_CUDA(status);
  auto recording = std::make_unique<CudaGraph>(executable, memory_);
  recording->replay();
  return recording;
}

void CudaDevice::norm_linear(const View& x, const View& norm, float epsilon, const Matrix& weight,
                             const View& out, const View& scratch) {
  if (cuda::few_rows_product_fits(x, weight, out, true)) {
    cuda::few_rows_product({.x = x,
                            .weight = weight.part[0],
                            .out = out,
                            .norm = norm,
                            .epsilon = epsilon,
                            .kind = cuda::FewRows::store},
                           stream());
    return;
  }
  Device::norm_linear(x, norm, epsilon, weight, out, scratch);
}

void CudaDevice::norm_gated_linear(const View& x, const View& norm, float epsilon,
                                   const Matrix& weight, const View& out, const View& scratch,
                                   const View& gate_up) {
  if (cuda::few_rows_product_fits(x, weight, out, true) && out.shape[1] % 8 == 0) {
    cuda::few_rows_product({.x = x,
                            .weight = weight.part[0],
                            .out = out,
                            .norm = norm,
                            .epsilon = epsilon,
                            .kind = cuda::FewRows::gated},
                           stream());
    return;
  }
  if (hopper() && cuda::gated_product_sm90_fits(scratch, weight, out)) {
    rms_norm(x, norm, epsilon, scratch);
    cuda::gated_product_sm90(scratch, weight, out, stream());
    return;
  }
  Device::norm_gated_linear(x, norm, epsilon, weight, out, scratch, gate_up);
}

}  // namespace fastkv
