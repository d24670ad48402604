#include "ops/gemm.h"

#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "core/error.h"

namespace fastkv {

void gemm_f32(const GemmShape& shape, const float* x, std::int64_t x_stride, const float* w,
              std::int64_t w_stride, bool accumulate, float* out, std::int64_t out_stride) {
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', shape.rows, shape.columns, shape.depth, 1.0F, x, x_stride, w, w_stride,
                 accumulate ? 1.0F : 0.0F, out, out_stride);
  if (status != dnnl_success) {
    fail("a matrix product of {} x {} x {} failed (oneDNN: {}); there may be too little memory",
         shape.rows, shape.depth, shape.columns,
         status == dnnl_out_of_memory ? "out of memory" : std::to_string(status));
  }
}

bool has_bf16_gemm() {
  static const bool has = [] {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::avx512_core_bf16:
      case dnnl::cpu_isa::avx512_core_amx:
        return true;
      default:
        return false;
    }
  }();
  return has;
}

void gemm_bf16(const GemmShape& shape, const std::uint16_t* x, std::int64_t x_stride,
               const std::uint16_t* w, std::int64_t w_stride, bool accumulate, float* out,
               std::int64_t out_stride) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::desc x_desc({shape.rows, shape.depth}, memory::data_type::bf16, {x_stride, 1});
  // The weight lies transposed; strides say so, and nothing is copied up front.
  const memory::desc w_desc({shape.depth, shape.columns}, memory::data_type::bf16, {1, w_stride});
  const memory::desc out_desc({shape.rows, shape.columns}, memory::data_type::f32, {out_stride, 1});
  dnnl::primitive_attr attributes;
  if (accumulate) {
    dnnl::post_ops add;
    add.append_sum();
    attributes.set_post_ops(add);
  }
  // oneDNN caches primitives by their description, so repeated shapes are not compiled again.
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x_desc, w_desc, out_desc),
                                                 attributes, engine);
  dnnl::stream stream(engine);
  dnnl::matmul(description)
      .execute(stream, {{DNNL_ARG_SRC, memory(x_desc, engine, const_cast<std::uint16_t*>(x))},
                        {DNNL_ARG_WEIGHTS, memory(w_desc, engine, const_cast<std::uint16_t*>(w))},
                        {DNNL_ARG_DST, memory(out_desc, engine, out)}});
  stream.wait();
}

}  // namespace fastkv
