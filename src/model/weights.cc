#include "model/weights.h"

#include <fmt/format.h>

#include <initializer_list>

#include "model/tensor_source.h"

namespace fastkv {
namespace {

Matrix stack(std::initializer_list<View> parts) {
  Matrix matrix;
  for (const View& part : parts) matrix.part[static_cast<std::size_t>(matrix.parts++)] = part;
  return matrix;
}

/// One layer's tensors, whose names begin with `prefix`.
class LayerReader {
 public:
  LayerReader(const ModelConfig& config, TensorSource& source, std::int64_t layer)
      : config_(config), source_(source), prefix_(fmt::format("model.layers.{}.", layer)) {}

  LayerWeights read() {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t mlp = config_.intermediate_size;
    const std::int64_t q_rows = config_.query_heads * config_.head_dim;
    const std::int64_t kv_rows = config_.kv_heads * config_.head_dim;

    LayerWeights w;
    w.attention_norm = vector("input_layernorm.weight", hidden);
    w.qkv = stack({matrix("self_attn.q_proj.weight", q_rows, hidden),
                   matrix("self_attn.k_proj.weight", kv_rows, hidden),
                   matrix("self_attn.v_proj.weight", kv_rows, hidden)});
    if (config_.attention_bias) {
      const TensorSource::VectorPart parts[] = {{prefix_ + "self_attn.q_proj.bias", q_rows},
                                                {prefix_ + "self_attn.k_proj.bias", kv_rows},
                                                {prefix_ + "self_attn.v_proj.bias", kv_rows}};
      w.qkv_bias = source_.vector(parts);
    }
    w.output = stack({matrix("self_attn.o_proj.weight", hidden, q_rows)});
    w.mlp_norm = vector("post_attention_layernorm.weight", hidden);
    w.gate_up = stack(
        {matrix("mlp.gate_proj.weight", mlp, hidden), matrix("mlp.up_proj.weight", mlp, hidden)});
    w.down = stack({matrix("mlp.down_proj.weight", hidden, mlp)});
    return w;
  }

 private:
  View matrix(std::string_view name, std::int64_t rows, std::int64_t columns) {
    return source_.matrix(fmt::format("{}{}", prefix_, name), rows, columns);
  }
  View vector(std::string_view name, std::int64_t size) {
    const TensorSource::VectorPart part{fmt::format("{}{}", prefix_, name), size};
    return source_.vector({&part, 1});
  }

  const ModelConfig& config_;
  TensorSource& source_;
  std::string prefix_;
};

}  // namespace

Weights collect_weights(const ModelConfig& config, TensorSource& source) {
  Weights weights;
  weights.embedding =
      source.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    weights.layers.push_back(LayerReader(config, source, layer).read());
  }
  const TensorSource::VectorPart norm{"model.norm.weight", config.hidden_size};
  weights.final_norm = source.vector({&norm, 1});
  weights.head = stack({config.tied_embeddings ? weights.embedding
                                               : source.matrix("lm_head.weight", config.vocab_size,
                                                               config.hidden_size)});

  auto frequencies = std::make_shared<const std::vector<float>>(rope_frequencies(config));
  // Views are not const-aware; nobody writes to weights.
  weights.rope_frequencies = View(const_cast<float*>(frequencies->data()), DType::f32,
                                  Shape{static_cast<std::int64_t>(frequencies->size())});
  weights.memory.push_back(std::move(frequencies));
  return weights;
}

}  // namespace fastkv
