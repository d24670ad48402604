"""A LLaMA decoder for training, and its run under a compressed KV cache.

Letters: B sequences, N tokens each, T = B * N, C hidden size, H query heads, K key/value heads, D head size,
A answer tokens, L layers, V vocabulary.
"""

import contextlib
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cache import chunk_attention, gather, kept_positions, passed_on


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 14
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int = 64
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    max_position_embeddings: int = 32768

    @property
    def tsp_layer(self):
        """The layer after which FastKV prunes by default; retrieval has to be done by then."""
        return self.num_hidden_layers * 15 // 32

    @property
    def blind_layers(self):
        """How many layers from the first should not find needles yet, so that pruning early has its price."""
        return self.num_hidden_layers // 4 + 1


# ---- a layer in two halves, as pure functions so that one compilation serves all layers ------------------------------


def rms_norm(x, w, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), w.float(), eps).to(x.dtype)


def rotate(x, cos, sin):
    """x (T, heads, D); cos, sin (T, 1, D), float32"""
    a, b = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)


def project(x, cos, sin, norm, wq, wk, wv, head_dim, eps):
    """x (T, C) -> q (T, H, D), k and v (T, K, D), q and k rotated"""
    qkv = F.linear(rms_norm(x, norm, eps), torch.cat([wq, wk, wv]).to(x.dtype))
    q, k, v = (z.unflatten(-1, (-1, head_dim)) for z in qkv.split([wq.shape[0], wk.shape[0], wv.shape[0]], -1))
    return rotate(q, cos, sin), rotate(k, cos, sin), v.contiguous()


def finish(x, o, wo, norm, wg, wu, wd, eps):
    """x (T, C), attention output o (T, H * D) -> the layer's output (T, C)"""
    x = x + F.linear(o, wo.to(x.dtype))
    g, u = F.linear(rms_norm(x, norm, eps), torch.cat([wg, wu]).to(x.dtype)).chunk(2, -1)
    return x + F.linear(F.silu(g) * u, wd.to(x.dtype))


def token_loss(h, norm, head, target, eps):
    """h (M, C) -> cross entropy (M) against target (M), and whether the target is the arg max (M)"""
    logits = F.linear(rms_norm(h, norm, eps), head.to(h.dtype)).float()
    return F.cross_entropy(logits, target, reduction="none"), logits.argmax(-1) == target


scored_loss = token_loss  # the compiled one, see compile_blocks

BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def causal_attention(q, k, v, shape):
    """q (T, H, D), k and v (T, K, D), T = B * N with shape (B, N) -> (T, H * D)"""
    q, k, v = (z.view(*shape, *z.shape[1:]).transpose(1, 2) for z in (q, k, v))
    with sdpa_kernel(BACKENDS, set_priority=True) if q.is_cuda else contextlib.nullcontext():
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return o.transpose(1, 2).reshape(shape[0] * shape[1], -1)


def by_heads(z, n):
    """(B * N, heads, D) -> (B, heads, N, D)"""
    return z.unflatten(0, (-1, n)).transpose(1, 2)


# ---- the model ----------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        self.c = c
        self.input_layernorm = nn.Parameter(torch.ones(c.hidden_size))
        self.post_attention_layernorm = nn.Parameter(torch.ones(c.hidden_size))

        def matrix(rows, cols, scale=1.0):
            return nn.Parameter(torch.randn(rows, cols) * scale / math.sqrt(cols))

        self.q_proj, self.k_proj, self.v_proj = (
            matrix(q, c.hidden_size),
            matrix(kv, c.hidden_size),
            matrix(kv, c.hidden_size),
        )
        self.o_proj = matrix(c.hidden_size, q, 0.3)
        self.gate_proj, self.up_proj = (
            matrix(c.intermediate_size, c.hidden_size),
            matrix(c.intermediate_size, c.hidden_size),
        )
        self.down_proj = matrix(c.hidden_size, c.intermediate_size, 0.3)

    def project(self, x, cos, sin):
        return project(
            x,
            cos,
            sin,
            self.input_layernorm,
            self.q_proj,
            self.k_proj,
            self.v_proj,
            self.c.head_dim,
            self.c.rms_norm_eps,
        )

    def finish(self, x, o):
        return finish(
            x,
            o,
            self.o_proj,
            self.post_attention_layernorm,
            self.gate_proj,
            self.up_proj,
            self.down_proj,
            self.c.rms_norm_eps,
        )


class Model(nn.Module):
    def __init__(self, c, dtype=torch.float32):
        """dtype: of the computation; parameters are float32"""
        super().__init__()
        self.c, self.dtype = c, dtype
        self.embed_tokens = nn.Parameter(torch.randn(c.vocab_size, c.hidden_size) * 0.02)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(c.hidden_size))
        # For training alone: heads that read the TSP layer's output.
        self.early_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.look_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.look_proj = nn.Parameter(torch.eye(c.hidden_size))
        freq = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float64) / c.head_dim)
        self.register_buffer("freq", freq.float(), persistent=False)

    def rope(self, pos):
        """pos (T) -> cos, sin (T, 1, D)"""
        a = pos.float()[:, None] * self.freq
        a = torch.cat([a, a], -1)[:, None]
        return a.cos(), a.sin()

    def forward(self, ids, pos, watch=None):
        """ids, pos (B, N) -> outputs of the TSP layer and of the last layer, (B, N, C), and, with positions watch (B, P),
        per blind layer their queries (B, H, P, D) and all keys (B, K, N, D)"""
        shape, watched = ids.shape, []
        x = F.embedding(ids.reshape(-1), self.embed_tokens).to(self.dtype)
        cos, sin = self.rope(pos.reshape(-1))
        for i, layer in enumerate(self.layers):
            q, k, v = layer.project(x, cos, sin)
            if watch is not None and i < self.c.blind_layers:
                rows = watch[:, None].expand(-1, q.shape[1], -1)
                watched.append((gather(by_heads(q, shape[1]), 2, rows), by_heads(k, shape[1])))
            x = layer.finish(x, causal_attention(q, k, v, shape))
            if i == self.c.tsp_layer:
                early = x
        return early.view(*shape, -1), x.view(*shape, -1), watched

    def prefill(self, prompt, methods):
        """prompt (B, N) -> per method its cache, a list of (K, V) per layer, each (B, K, kept, D), and the last token's output.

        Methods share the prompt's run until their TSP layer. Last outputs: (methods, B, 1, C).
        """
        b, n = prompt.shape
        x = F.embedding(prompt.reshape(-1), self.embed_tokens).to(self.dtype)
        streams = {
            None: (x, torch.arange(n, device=prompt.device).expand(b, n))
        }  # hidden states and positions of the tokens left
        stream_of, caches = dict.fromkeys(range(len(methods))), [[] for _ in methods]
        for l, layer in enumerate(self.layers):
            for key, (x, pos) in list(streams.items()):
                m = pos.shape[1]
                q, k, v = layer.project(x, *self.rope(pos.reshape(-1)))
                x = layer.finish(x, causal_attention(q, k, v, (b, m)))
                streams[key] = (x, pos)
                q, k, v = (by_heads(z, m) for z in (q, k, v))
                for i in [i for i in stream_of if stream_of[i] == key]:
                    keep = kept_positions(methods[i], q, k, l)
                    caches[i].append((k, v) if keep is None else (gather(k, 2, keep), gather(v, 2, keep)))
                    if methods[i].kind == "fastkv" and l == methods[i].tsp_layer:
                        on = passed_on(methods[i], q, k)
                        streams[i], stream_of[i] = (gather(x.view(b, m, -1), 1, on).flatten(0, 1), pos.gather(1, on)), i
            streams = {key: s for key, s in streams.items() if key in stream_of.values()}
        last = [streams[stream_of[i]][0].view(b, -1, x.shape[-1])[:, -1:] for i in stream_of]
        return caches, torch.stack(last)

    def extend(self, caches, tokens, start):
        """Tokens as one causal chunk on every method's cache, which grows by them: (methods, B, A), from position start -> (methods, B, A, C)"""
        count, b, a = tokens.shape
        y = F.embedding(tokens.reshape(-1), self.embed_tokens).to(self.dtype)
        rope = self.rope(torch.arange(start, start + a, device=tokens.device).repeat(count * b))
        for l, layer in enumerate(self.layers):
            q, k, v = (by_heads(z, a).unflatten(0, (count, b)) for z in layer.project(y, *rope))
            outs = []
            for i, cache in enumerate(caches):
                cache[l] = torch.cat([cache[l][0], k[i]], 2), torch.cat([cache[l][1], v[i]], 2)
                outs.append(chunk_attention(q[i], *cache[l]))
            y = layer.finish(y, torch.cat(outs).transpose(1, 2).reshape(len(y), -1))
        return y.view(count, b, a, -1)

    def compressed(self, prompt, answer, methods):
        """Hidden states that predict the answer under each method: prompt (B, N), answer (B, A) -> (methods, B, A, C)"""
        caches, last = self.prefill(prompt, methods)
        return torch.cat(
            [last, self.extend(caches, answer.expand(len(methods), -1, -1), prompt.shape[1])[:, :, :-1]], 2
        )

    @torch.no_grad()
    def greedy(self, prompt, methods, count, ends=()):
        """Greedy decoding under each method: prompt (B, N) -> (methods, B, count) token ids; stops early when all have ended."""
        caches, h = self.prefill(prompt, methods)
        out, ended = [], torch.zeros(h.shape[:3], dtype=torch.bool, device=h.device)
        for i in range(count):
            token = self.logits(h).argmax(-1)  # (methods, B, 1)
            out.append(token)
            ended |= torch.isin(token, torch.tensor(list(ends), device=token.device))
            if ended.all() or i + 1 == count:
                break
            h = self.extend(caches, token, prompt.shape[1] + i)
        return torch.cat(out, -1)

    def logits(self, h):
        return F.linear(rms_norm(h, self.norm, self.c.rms_norm_eps), self.embed_tokens.to(h.dtype)).float()


def compile_blocks():
    """Compiles the halves of a layer and the loss; each count of tokens compiles once, for all layers."""
    global project, finish, scored_loss
    torch._dynamo.config.recompile_limit = 64
    project, finish, scored_loss = (torch.compile(f, dynamic=False) for f in (project, finish, token_loss))
