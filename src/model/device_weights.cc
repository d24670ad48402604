#include "model/device_weights.h"

#include "core/error.h"
#include "ops/convert.h"

namespace fastkv {
namespace {

/// Copies weights to a device and keeps the memory there.
class Mover {
 public:
  Mover(Device& device, const Weights& from, const Progress& progress)
      : device_(device), total_(from.bytes), progress_(progress) {}

  View vector(const View& from) {
    if (!from) return {};
    const View to = take(DType::f32, from.shape);
    device_.upload(from.data, to);
    return to;
  }

  View matrix(const View& from) {
    Matrix whole;
    whole.part[0] = from;
    whole.parts = 1;
    return matrix(whole).part[0];
  }

  Matrix matrix(const Matrix& from) {
    const View to = take(device_.activation_type(), {from.rows(), from.columns()});
    std::int64_t row = 0;
    for (int i = 0; i < from.parts; ++i) {
      const View& part = from.part[static_cast<std::size_t>(i)];
      upload(part, to.slice(row, part.rows()));
      row += part.rows();
      done_ += static_cast<std::size_t>(part.shape.count()) * size_of(part.type);
      if (progress_ && total_)
        progress_(std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)));
    }
    Matrix result;
    result.part[0] = to;
    result.parts = 1;
    return result;
  }

  std::vector<std::shared_ptr<const void>> memory;
  std::size_t bytes = 0;

 private:
  View take(DType type, Shape shape) {
    auto tensor = std::make_shared<Tensor>(device_.empty(type, shape));
    const View view = *tensor;
    bytes += tensor->bytes();
    memory.push_back(std::move(tensor));
    return view;
  }

  /// A piece at a time where the type changes, so that the host needs little memory.
  void upload(const View& from, const View& to) {
    if (from.type == to.type) {
      for_rows(from, [&](std::int64_t first, std::int64_t count) {
        device_.upload(from.row_bytes(first), to.slice(first, count));
      });
      return;
    }
    const std::int64_t columns = from.shape[1];
    for_rows(from, [&](std::int64_t first, std::int64_t count) {
      const auto numbers = static_cast<std::size_t>(count * columns);
      if (to.type == DType::f32) {
        wide_.resize(numbers);
        for (std::size_t i = 0; i < numbers; ++i)
          wide_[i] = load_float(from.row_bytes(first), from.type, static_cast<std::int64_t>(i));
        device_.upload(wide_.data(), to.slice(first, count));
      } else {
        narrow_.resize(numbers);
        for (std::size_t i = 0; i < numbers; ++i)
          narrow_[i] = bf16_from_float(
              load_float(from.row_bytes(first), from.type, static_cast<std::int64_t>(i)));
        device_.upload(narrow_.data(), to.slice(first, count));
      }
    });
  }

  template <class Work>
  static void for_rows(const View& from, const Work& work) {
    constexpr std::int64_t piece = std::int64_t{16} << 20;  // numbers
    const std::int64_t rows = std::max<std::int64_t>(1, piece / from.shape[1]);
    for (std::int64_t first = 0; first < from.rows(); first += rows)
      work(first, std::min(rows, from.rows() - first));
  }

  Device& device_;
  std::size_t total_;
  std::size_t done_ = 0;
  const Progress& progress_;
  std::vector<float> wide_;
  std::vector<std::uint16_t> narrow_;
};

}  // namespace

Weights move_to(Device& device, Weights from, const Progress& progress) {
  if (device.shares_host_memory()) return from;
  if (from.bytes > device.free_memory()) {
    fail("the model's weights need {:.1f} GiB of the device's memory, but {:.1f} GiB are free",
         static_cast<double>(from.bytes) / 0x1p30,
         static_cast<double>(device.free_memory()) / 0x1p30);
  }
  Mover mover(device, from, progress);
  Weights to;
  to.embedding = mover.matrix(from.embedding);
  for (const LayerWeights& layer : from.layers) {
    to.layers.push_back({.attention_norm = mover.vector(layer.attention_norm),
                         .qkv = mover.matrix(layer.qkv),
                         .qkv_bias = mover.vector(layer.qkv_bias),
                         .output = mover.matrix(layer.output),
                         .mlp_norm = mover.vector(layer.mlp_norm),
                         .gate_up = mover.matrix(layer.gate_up),
                         .down = mover.matrix(layer.down)});
  }
  to.final_norm = mover.vector(from.final_norm);
  if (from.head.part[0].data == from.embedding.data) {
    to.head.part[0] = to.embedding;
    to.head.parts = 1;
  } else {
    to.head = mover.matrix(from.head);
  }
  to.rope_frequencies = mover.vector(from.rope_frequencies);
  device.synchronize();  // the host's copy goes with `from`
  to.memory = std::move(mover.memory);
  to.bytes = mover.bytes;
  return to;
}

}  // namespace fastkv
