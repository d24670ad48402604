#include "ops/timed_device.h"

#include <fmt/format.h>

#include <chrono>

namespace fastkv {
namespace {

/// Query-key pairs of one head that attention has to look at.
double attention_pairs(const AttentionArgs& a) {
  double pairs = 0.0;
  for (const AttentionSegment& s : a.segments) {
    const auto rows = static_cast<double>(s.rows);
    // How much is cached is known to the device alone; prompts are what profiles are for.
    pairs += rows * (rows + 1) / 2;
  }
  return pairs;
}

double bytes(const View& view) {
  return view ? static_cast<double>(view.shape.count()) * static_cast<double>(size_of(view.type))
              : 0.0;
}

double bytes(const Matrix& matrix) {
  double sum = 0;
  for (int i = 0; i < matrix.parts; ++i) sum += bytes(matrix.part[static_cast<std::size_t>(i)]);
  return sum;
}

double product_flops(const View& x, const Matrix& weight) {
  return 2.0 * static_cast<double>(x.rows()) * static_cast<double>(weight.rows()) *
         static_cast<double>(weight.columns());
}

std::string name_of(const char* operation, const Matrix& weight) {
  return fmt::format("{} {} x {}", operation, weight.rows(), weight.columns());
}

}  // namespace

template <class Work>
void TimedDevice::timed(const std::string& name, double flops, double bytes, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  device_.synchronize();
  Total& total = totals_[name];
  ++total.calls;
  total.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  total.flops += flops;
  total.bytes += bytes;
}

void TimedDevice::embed(const View& ids, const View& table, const View& out) {
  timed("embed", 0, 2 * bytes(out), [&] { device_.embed(ids, table, out); });
}
void TimedDevice::rms_norm(const View& x, const View& weight, float epsilon, const View& out) {
  timed("rms_norm", 0, bytes(x) + bytes(out), [&] { device_.rms_norm(x, weight, epsilon, out); });
}
void TimedDevice::linear(const View& x, const Matrix& weight, const View& out, Store store) {
  timed(name_of("linear", weight), product_flops(x, weight),
        bytes(x) + bytes(weight) + bytes(out) * (store == Store::accumulate ? 2 : 1),
        [&] { device_.linear(x, weight, out, store); });
}
void TimedDevice::norm_gated_linear(const View& x, const View& norm, float epsilon,
                                    const Matrix& weight, const View& out, const View& scratch,
                                    const View& gate_up) {
  timed(name_of("norm, linear, gate", weight), product_flops(x, weight),
        bytes(x) + bytes(weight) + bytes(out),
        [&] { device_.norm_gated_linear(x, norm, epsilon, weight, out, scratch, gate_up); });
}
void TimedDevice::add_bias(const View& x, const View& bias) {
  timed("add_bias", 0, 2 * bytes(x), [&] { device_.add_bias(x, bias); });
}
void TimedDevice::rope(const View& x, std::int64_t rotated, const View& positions,
                       const View& frequencies, const View& out) {
  timed("rope", 0, bytes(x) + bytes(out),
        [&] { device_.rope(x, rotated, positions, frequencies, out); });
}
void TimedDevice::attention(const AttentionArgs& a) {
  const double flops = 4.0 * static_cast<double>(a.q.shape[1] * a.q.shape[2]) * attention_pairs(a);
  timed("attention", flops, bytes(a.q) + bytes(a.k) + bytes(a.v) + bytes(a.out),
        [&] { device_.attention(a); });
}
void TimedDevice::swiglu(const View& gate_up, const View& out) {
  timed("swiglu", 0, bytes(gate_up) + bytes(out), [&] { device_.swiglu(gate_up, out); });
}
void TimedDevice::store(std::span<const StoreArgs> sequences, const PageLayout& layout) {
  double moved = 0;
  for (const StoreArgs& s : sequences) {
    const auto entries = static_cast<double>(s.count * s.cache.heads * s.k.shape[2]);
    moved += 2 * entries * static_cast<double>(size_of(s.k.type) + size_of(layout.type));
  }
  timed("store", 0, moved, [&] { device_.store(sequences, layout); });
}
void TimedDevice::column_sums(const ColumnSumArgs& a) {
  const auto n = static_cast<double>(a.k.rows());
  const auto rows = static_cast<double>(a.rows);
  const double flops =
      2.0 * static_cast<double>(a.q.shape[1] * a.q.shape[2]) * (rows * n - rows * (rows - 1) / 2);
  timed("column_sums", flops, bytes(a.q) * rows / n + bytes(a.k) + bytes(a.out),
        [&] { device_.column_sums(a); });
}
void TimedDevice::last_query_dots(const View& q, const View& k, const View& out) {
  timed("last_query_dots", 0, bytes(k) + bytes(out), [&] { device_.last_query_dots(q, k, out); });
}
void TimedDevice::pool(const View& scores, std::int64_t columns, int kernel, Pooling pooling,
                       const View& out) {
  timed("pool", 0, bytes(scores) + bytes(out),
        [&] { device_.pool(scores, columns, kernel, pooling, out); });
}
void TimedDevice::sum_groups(const View& scores, std::int64_t group, const View& out) {
  timed("sum_groups", 0, bytes(scores) + bytes(out),
        [&] { device_.sum_groups(scores, group, out); });
}
void TimedDevice::top_k(const View& scores, std::int64_t count, std::int64_t first,
                        std::int64_t recent, const View& out) {
  timed("top_k", 0, bytes(scores) + bytes(out),
        [&] { device_.top_k(scores, count, first, recent, out); });
}
void TimedDevice::gather_rows(const View& x, const View& rows, const View& out) {
  timed("gather_rows", 0, 2 * bytes(out), [&] { device_.gather_rows(x, rows, out); });
}

void TimedDevice::argmax(const View& x, const View& out) {
  timed("argmax", 0, bytes(x), [&] { device_.argmax(x, out); });
}
void TimedDevice::draw(const View& logits, const View& settings, const View& out) {
  timed("draw", 0, bytes(logits), [&] { device_.draw(logits, settings, out); });
}

}  // namespace fastkv
