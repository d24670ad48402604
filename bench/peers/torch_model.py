"""A model of transformers with random weights, and how it runs a prompt and new tokens."""

import math

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from shapes import Shape


def config_of(shape: Shape) -> LlamaConfig:
    rope = {"rope_type": "default", **(shape.rope_scaling or {}), "rope_theta": shape.rope_theta}
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        rms_norm_eps=shape.norm_epsilon,
        rope_parameters=rope,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied_embeddings,
        attn_implementation="sdpa",
        bos_token_id=0,
        eos_token_id=1,
    )


def random_model(
    shape: Shape, device: str, dtype: torch.dtype = torch.bfloat16
) -> LlamaForCausalLM:
    """Weights are drawn where they stay: normal values of deviation 1 / sqrt(inputs)."""
    config = config_of(shape)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    model.to_empty(device=device)
    model.tie_weights()
    # Its frequencies are no weights: without values after to_empty(), and float32 in any model.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, 1.0 / math.sqrt(weight.shape[-1]))
    return model.eval()


class Transformers:
    """The model as transformers runs it, with every key and value kept."""

    name = "transformers"

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.model = model

    def prefill(self, ids: Tensor) -> tuple[Tensor, DynamicCache]:
        """Logits of the last of `ids` (1, n), and the cache."""
        cache = DynamicCache(config=self.model.config)
        out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1], cache

    def step(self, token: Tensor, cache: DynamicCache) -> Tensor:
        """Logits after one more token (1, 1)."""
        return self.model(token, past_key_values=cache, use_cache=True).logits[:, -1]
