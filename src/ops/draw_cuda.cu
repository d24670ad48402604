// Drawing tokens without sorting them. What the settings ask for are up to three searches from the
// likeliest token down: for the k-th token, for the one that makes up top_p, for the drawn one.
// A search sums up a histogram of the upper half of all distances, then one of the lower half of
// those in the bin where it ended. One launch builds a histogram with many blocks a row; the last
// block to finish looks where the search ends, and begins the next one.

#include <algorithm>

#include "ops/cuda_device.h"
#include "ops/cuda_support.h"

namespace fastkv {
namespace {

constexpr int threads = 512;
constexpr int warps = threads / 32;
constexpr int blocks = 32;  // for a row; pick_kernel has a lane for each
constexpr int half_bits = distance_bits / 2;
constexpr int bin_count = 1 << half_bits;
constexpr std::uint32_t lower_half = bin_count - 1;

using Whole = unsigned long long;

struct alignas(16) Sums {
  Whole mass, tokens;

  __device__ void add(const Sums& other) {
    mass += other.mass;
    tokens += other.tokens;
  }
};

enum Search { none, kth_token, top_p_share, drawn_token, found };

/// How far a row has come. All zero at first.
struct Progress {
  int search;
  std::uint32_t bin;       // of the first histogram, in which the search ends
  Whole at;                // it ends where the sum over the bin's tokens first exceeds this
  Whole mass_above_bin;    // of the tokens that come before all of the bin's
  std::uint32_t distance;  // once found: of the drawn token,
  Whole before;            // and how many tokens of the same distance come before it
};

/// A row's workspace, all zero at first.
struct Row {
  Sums bins[4][bin_count];  // of all tokens; then for each search, of those in its bin
  Progress progress;
  unsigned tickets[5];       // for each launch, blocks that are done
  unsigned matches[blocks];  // tokens of the drawn one's distance in each block's columns
};

/// Sums over the threads before this one, and over all of the block.
__device__ Sums sums_before(const Sums& own, Sums& total) {
  __shared__ Sums of_warp[warps];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  Sums through = own;  // of the warp's lanes up to this one
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const Sums other{__shfl_up_sync(0xffffffffU, through.mass, lanes),
                     __shfl_up_sync(0xffffffffU, through.tokens, lanes)};
    if (lane >= lanes) through.add(other);
  }
  if (lane == 31) of_warp[warp] = through;
  __syncthreads();
  Sums before{through.mass - own.mass, through.tokens - own.tokens};
  total = {0, 0};
  for (int w = 0; w < warps; ++w) {
    if (w < warp) before.add(of_warp[w]);
    total.add(of_warp[w]);
  }
  __syncthreads();  // of_warp may be written again
  return before;
}

struct Place {
  std::uint32_t bin;
  Sums before;  // over the bins before it
};

/// The bin at which the running sum first exceeds `at`: of tokens, or of mass. There must be one.
__device__ Place find(const Sums* bins, bool of_tokens, Whole at) {
  __shared__ Place place;
  constexpr int each = bin_count / threads;
  const unsigned first = threadIdx.x * each;
  Sums own[each];
  Sums sum{0, 0}, total;
  for (int i = 0; i < each; ++i) {
    // Other blocks wrote them: past the first cache.
    const ulonglong2 bin = __ldcg(reinterpret_cast<const ulonglong2*>(bins + first + i));
    own[i] = {bin.x, bin.y};
    sum.add(own[i]);
  }
  Sums before = sums_before(sum, total);
  for (int i = 0; i < each; ++i) {
    const Whole begin = of_tokens ? before.tokens : before.mass;
    const Whole size = of_tokens ? own[i].tokens : own[i].mass;
    if (begin <= at && at - begin < size) place = {first + i, before};
    before.add(own[i]);
  }
  __syncthreads();
  return place;  // the next call writes it behind a barrier
}

/// Whether this is the last of a row's blocks to come here; then it sees what the others wrote.
__device__ bool is_last_block(unsigned* ticket) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(ticket, 1U) == blocks - 1;
  __syncthreads();
  __threadfence();
  return is_last;
}

/// Begins the search for the end of top_p, where it cuts, or for the drawn token, among the first
/// tokens with this mass.
__device__ void search_mass(Row& row, const DrawSettings& s, bool may_cut, Whole mass) {
  const bool cuts = may_cut && s.top_p < 1;
  const Whole at = cuts ? share_of(mass, s.top_p) - 1 : __umul64hi(s.random, mass);
  const Place place = find(row.bins[0], false, at);
  if (threadIdx.x > 0) return;
  row.progress = {.search = cuts ? top_p_share : drawn_token,
                  .bin = place.bin,
                  .at = at - place.before.mass,
                  .mass_above_bin = place.before.mass,
                  .distance = 0,
                  .before = 0};
}

/// After the first histogram.
__device__ void begin(Row& row, const DrawSettings& s) {
  Sums sum{0, 0}, total;
  for (int i = threadIdx.x; i < bin_count; i += threads) {
    const ulonglong2 bin = __ldcg(reinterpret_cast<const ulonglong2*>(row.bins[0] + i));
    sum.add({bin.x, bin.y});
  }
  sums_before(sum, total);
  if (total.tokens == 0) return;  // nothing is a number
  if (s.top_k <= 0 || static_cast<Whole>(s.top_k) >= total.tokens) {
    search_mass(row, s, true, total.mass);
    return;
  }
  const Whole at = static_cast<Whole>(s.top_k) - 1;
  const Place place = find(row.bins[0], true, at);
  if (threadIdx.x > 0) return;
  row.progress = {.search = kth_token,
                  .bin = place.bin,
                  .at = at - place.before.tokens,
                  .mass_above_bin = place.before.mass,
                  .distance = 0,
                  .before = 0};
}

/// After the histogram of a search's bin.
__device__ void go_on(Row& row, const DrawSettings& s, const Progress& p) {
  const bool of_tokens = p.search == kth_token;
  const Place place = find(row.bins[p.search], of_tokens, p.at);
  const std::uint32_t distance = p.bin << half_bits | place.bin;
  const Whole mass = mass_at(distance);
  // All tokens of this bin are equally likely.
  const Whole before = of_tokens ? p.at - place.before.tokens : (p.at - place.before.mass) / mass;
  if (p.search != drawn_token) {
    search_mass(row, s, p.search == kth_token,
                p.mass_above_bin + place.before.mass + (before + 1) * mass);
  } else if (threadIdx.x == 0) {
    row.progress.search = found;
    row.progress.distance = distance;
    row.progress.before = before;
  }
}

/// Launch 0 builds the histogram of all tokens, launches 1 to 3 those of the searches' bins.
/// highest: (rows), the column of each row's highest logit
__global__ void __launch_bounds__(threads)
    search_kernel(const float* logits, std::int64_t stride, int columns,
                  const DrawSettings* settings, const std::int32_t* highest, Row* rows,
                  int launch) {
  cuda::let_next_start();
  cuda::wait_for_inputs();
  const DrawSettings s = settings[blockIdx.y];
  if (s.temperature == 0) return;
  Row& row = rows[blockIdx.y];
  const Progress p = row.progress;
  if (p.search != launch) return;
  logits += blockIdx.y * stride;
  const float high = logits[highest[blockIdx.y]];
  const double steps = steps_of(s.temperature);
  const Whole least = least_mass(s.min_p);
  Sums* bins = row.bins[launch];

  constexpr int batch = 8;  // loads under way at a time
  for (int first = blockIdx.x * threads + threadIdx.x; first < columns;
       first += batch * blocks * threads) {
    float x[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int column = first + i * blocks * threads;
      x[i] = column < columns ? logits[column] : NAN;
    }
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const std::uint32_t distance = distance_below(high, x[i], steps);
      const std::uint32_t upper = distance >> half_bits;
      if (distance == too_far || (launch > 0 && upper != p.bin)) continue;
      const Whole mass = mass_at(distance);
      if (mass < least) continue;
      Sums& bin = bins[launch > 0 ? distance & lower_half : upper];
      atomicAdd(&bin.mass, mass);
      atomicAdd(&bin.tokens, Whole{1});
    }
  }
  if (!is_last_block(&row.tickets[launch])) return;
  if (launch == 0) {
    begin(row, s);
  } else {
    go_on(row, s, p);
  }
}

/// Finds the drawn token among those of its distance.
/// out: (rows), where the column of each row's highest logit is replaced
__global__ void __launch_bounds__(threads)
    pick_kernel(const float* logits, std::int64_t stride, int columns, const DrawSettings* settings,
                Row* rows, std::int32_t* out) {
  cuda::let_next_start();
  cuda::wait_for_inputs();
  const DrawSettings s = settings[blockIdx.y];
  if (s.temperature == 0) return;
  Row& row = rows[blockIdx.y];
  const Progress p = row.progress;
  if (p.search != found) return;
  logits += blockIdx.y * stride;
  const float high = logits[out[blockIdx.y]];
  const double steps = steps_of(s.temperature);
  const auto matches = [&](int column) {
    return distance_below(high, logits[column], steps) == p.distance;
  };

  const int run = (columns + blocks - 1) / blocks;  // of a block
  unsigned own = 0;
  const int end = min((static_cast<int>(blockIdx.x) + 1) * run, columns);
#pragma unroll 8
  for (int column = blockIdx.x * run + threadIdx.x; column < end; column += threads)
    own += matches(column);
  if (own > 0) atomicAdd(&row.matches[blockIdx.x], own);
  if (!is_last_block(&row.tickets[4])) return;

  // Every warp finds the run, a lane a run; then a thread its few columns.
  static_assert(blocks == 32);
  const int lane = threadIdx.x % 32;
  const unsigned of_run = __ldcg(&row.matches[lane]);
  unsigned through = of_run;
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const unsigned other = __shfl_up_sync(0xffffffffU, through, lanes);
    if (lane >= lanes) through += other;
  }
  const int chosen = __ffs(__ballot_sync(0xffffffffU, through > p.before)) - 1;
  const Whole before_run = __shfl_sync(0xffffffffU, through - of_run, chosen);
  const Whole wanted = p.before - before_run;
  const int run_end = min((chosen + 1) * run, columns);
  const int each = (run + threads - 1) / threads;
  const int first = min(chosen * run + static_cast<int>(threadIdx.x) * each, run_end);
  const int last = min(first + each, run_end);
  Sums sum{0, 0}, total;
  for (int column = first; column < last; ++column) sum.tokens += matches(column);
  Whole before = sums_before(sum, total).tokens;
  for (int column = first; column < last; ++column) {
    if (!matches(column)) continue;
    if (before == wanted) out[blockIdx.y] = column;
    ++before;
  }
}

}  // namespace

void CudaDevice::draw(const View& logits, const View& settings, const View& out) {
  argmax(logits, out);
  // Nobody else uses the decoding workspace meanwhile.
  auto* workspace = static_cast<Row*>(decode_partials_.view().data);
  const auto at_once = static_cast<std::int64_t>(decode_partials_.bytes() / sizeof(Row));
  const auto columns = static_cast<int>(logits.shape[1]);
  for (std::int64_t first = 0; first < logits.rows(); first += at_once) {
    const View rows = logits.slice(first, std::min(at_once, logits.rows() - first));
    const auto* x = static_cast<const float*>(rows.data);
    const auto* of_rows = static_cast<const DrawSettings*>(settings.data) + first;
    std::int32_t* to = out.as<std::int32_t>() + first;
    const dim3 grid(blocks, static_cast<unsigned>(rows.rows()));
    FASTKV_CUDA(cudaMemsetAsync(workspace, 0, static_cast<std::size_t>(rows.rows()) * sizeof(Row),
                                stream()));
    for (int launch = 0; launch < 4; ++launch) {
      cuda::launch("search_kernel", search_kernel, grid, threads, 0, stream(), launch > 0, x,
                   rows.row_stride, columns, of_rows, to, workspace, launch);
    }
    cuda::launch("pick_kernel", pick_kernel, grid, threads, 0, stream(), true, x, rows.row_stride,
                 columns, of_rows, workspace, to);
  }
}

}  // namespace fastkv
