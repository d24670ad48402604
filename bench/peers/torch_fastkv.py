"""FastKV in plain PyTorch: https://arxiv.org/abs/2502.01068

What a short implementation over the usual library calls reaches. Its choices are those of
`fastkv bench --method fastkv` with default options.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

# (layers, hidden size) -> TSP layer, for LLaMA-3.1-8B, Ministral-8B, Mistral-Nemo-12B
PUBLISHED_TSP_LAYERS = {(32, 4096): 15, (36, 4096): 17, (40, 5120): 19}


@dataclass(frozen=True)
class FastKVOptions:
    tsp_layer: int  # the last layer that sees the whole prompt, from 0
    tsp_rate: float = 0.2  # share of the tokens that goes on after it
    retain: float = 0.1  # share of the prompt that each layer keeps
    window: int = 8  # last tokens, which choose and are always kept
    kernel: int = 7  # width of the pooling, odd


def default_options(layers: int, hidden: int) -> FastKVOptions:
    return FastKVOptions(PUBLISHED_TSP_LAYERS.get((layers, hidden), layers * 15 // 32))


@dataclass
class CompressedCache:
    """Each layer has its own number of entries."""

    next_position: int
    keys: list[Tensor] = field(default_factory=list)  # (1, kv_heads, kept, head_dim) of a layer
    values: list[Tensor] = field(default_factory=list)


def rms_norm(x: Tensor, norm: LlamaRMSNorm) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (1, heads, n, head_dim); cos, sin (1, 1, n, head_dim)."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def window_scores(q: Tensor, k: Tensor, window: int, kernel: int) -> Tensor:
    """How much the last `window` queries attend to each earlier token: (kv_heads, n - window)."""
    _, query_heads, n, head_dim = q.shape
    kv_heads = k.shape[1]
    group = query_heads // kv_heads
    last = q[0, :, -window:].reshape(kv_heads, group * window, head_dim)
    logits = (last @ k[0].transpose(1, 2)).float() * head_dim**-0.5
    logits = logits.view(kv_heads, group, window, n)
    later = torch.ones(window, window, dtype=torch.bool, device=q.device).triu(1)
    logits[..., -window:].masked_fill_(later, float("-inf"))
    sums = logits.softmax(-1)[..., :-window].sum(2)  # (kv_heads, group, n - window)
    return F.max_pool1d(sums, kernel, stride=1, padding=kernel // 2).sum(1)


def chosen_positions(scores: Tensor, count: int, n: int) -> Tensor:
    """The `count` best of each row of scores and all tokens behind them, ascending."""
    best = scores.topk(count, dim=-1).indices.sort(dim=-1).values
    recent = torch.arange(scores.shape[-1], n, device=scores.device)
    return torch.cat((best, recent.expand(*best.shape[:-1], -1)), dim=-1)


class TorchFastKV:
    """Runs the weights of a transformers model; batch 1."""

    name = "PyTorch FastKV"

    def __init__(self, model: LlamaForCausalLM, options: FastKVOptions) -> None:
        self.model = model
        self.config = model.config
        self.o = options

    def prefill(self, ids: Tensor) -> tuple[Tensor, CompressedCache]:
        """Logits of the last of `ids` (1, n), and what the layers kept."""
        hidden = self.model.model.embed_tokens(ids)
        cos, sin = self._rotation(hidden, torch.arange(ids.shape[1], device=ids.device))
        cache = CompressedCache(next_position=ids.shape[1])
        for index, layer in enumerate(self.model.model.layers):
            q, k, v = self._qkv(layer, hidden, cos, sin)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            scores = window_scores(q, k, self.o.window, self.o.kernel)
            self._store(cache, index, k, v, scores)
            hidden = self._finish_layer(layer, hidden, attended)
            if index == self.o.tsp_layer:
                going_on = self._going_on(scores, hidden.shape[1])
                hidden, cos, sin = hidden[:, going_on], cos[:, :, going_on], sin[:, :, going_on]
        return self._logits(hidden), cache

    def step(self, token: Tensor, cache: CompressedCache) -> Tensor:
        """Logits after one more token (1, 1), which every layer keeps."""
        hidden = self.model.model.embed_tokens(token)
        position = torch.full((1,), cache.next_position, device=token.device)
        cos, sin = self._rotation(hidden, position)
        for index, layer in enumerate(self.model.model.layers):
            q, k, v = self._qkv(layer, hidden, cos, sin)
            k = cache.keys[index] = torch.cat((cache.keys[index], k), dim=2)
            v = cache.values[index] = torch.cat((cache.values[index], v), dim=2)
            attended = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            hidden = self._finish_layer(layer, hidden, attended)
        cache.next_position += 1
        return self._logits(hidden)

    def _rotation(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.model.model.rotary_emb(hidden, positions[None])
        return cos[:, None], sin[:, None]

    def _qkv(
        self, layer: LlamaDecoderLayer, hidden: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each (1, heads, n, head_dim), the first two rotated."""
        x = rms_norm(hidden, layer.input_layernorm)
        attention = layer.self_attn
        q, k, v = (
            project(x).view(1, x.shape[1], -1, self.config.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def _finish_layer(self, layer: LlamaDecoderLayer, hidden: Tensor, attended: Tensor) -> Tensor:
        attended = attended.transpose(1, 2).flatten(2)
        hidden = hidden + layer.self_attn.o_proj(attended)
        return hidden + layer.mlp(rms_norm(hidden, layer.post_attention_layernorm))

    def _store(
        self, cache: CompressedCache, index: int, k: Tensor, v: Tensor, scores: Tensor
    ) -> None:
        """Keeps each KV head's own best entries; about as many after the TSP layer as before it."""
        n = k.shape[2]
        share = self.o.retain if index <= self.o.tsp_layer else self.o.retain / self.o.tsp_rate
        count = max(int(n * share) - self.o.window, 1)
        if count < scores.shape[-1]:
            kept = chosen_positions(scores, count, n)[None, :, :, None]
            kept = kept.expand(-1, -1, -1, k.shape[-1])
            k, v = k.gather(2, kept), v.gather(2, kept)
        cache.keys.append(k)
        cache.values.append(v)

    def _going_on(self, scores: Tensor, n: int) -> Tensor:
        count = min(max(int(n * self.o.tsp_rate) - self.o.window, 1), scores.shape[-1])
        return chosen_positions(scores.sum(0), count, n)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(rms_norm(hidden[:, -1], self.model.model.norm))
