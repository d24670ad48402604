"""What a KV cache keeps under SnapKV, StreamingLLM and FastKV (https://arxiv.org/abs/2404.14469, 2309.17453, 2502.01068).

Letters: B sequences, N prompt tokens, H query heads, K key/value heads, D head size, A tokens after the prompt.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Method:
    """What the cache keeps after the prompt: full, snapkv, streamingllm or fastkv."""

    kind: str = "full"
    retain: float = 0.1
    tsp_layer: int = -1
    tsp_rate: float = 0.2
    window: int = 8
    kernel: int = 7
    sinks: int = 4


def window_scores(q, k, method):
    """Attention of the last `window` queries, pooled along keys, summed over groups. q (B, H, N, D), k (B, K, N, D) -> (B, K, N - window)"""
    b, h, n, d = q.shape
    w, kv = method.window, k.shape[1]
    s = (q[:, :, -w:].reshape(b, kv, h // kv * w, d) @ k.transpose(2, 3)).float() / math.sqrt(d)
    s = s.view(b, h, w, n)
    s[..., -w:] += torch.full((w, w), float("-inf"), device=s.device).triu(1)
    a = s.softmax(-1)[..., : n - w].sum(2)
    a = F.max_pool1d(a, method.kernel, stride=1, padding=method.kernel // 2)
    return a.view(b, kv, h // kv, n - w).sum(2)


def top(scores, count):
    """Positions of the highest scores along the last axis; of equal scores (pooling makes many) the lower position wins."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]


@torch.no_grad()
def kept_positions(method, q, k, layer):
    """Ascending positions that the layer's cache keeps, (B, K, kept), or None for all."""
    b, kv, n, _ = k.shape
    if method.kind == "full":
        return None
    rate = method.retain
    if method.kind == "fastkv" and layer > method.tsp_layer:
        rate = method.retain / method.tsp_rate
    if method.kind == "streamingllm":
        size = max(int(n * rate), method.sinks + 1)
        keep = torch.cat(
            [torch.arange(method.sinks, device=k.device), torch.arange(n - size + method.sinks, n, device=k.device)]
        )
        return keep.expand(b, kv, -1) if size < n else None
    size = max(int(n * rate), method.window + 1)
    if size >= n:
        return None
    best = top(window_scores(q, k, method), size - method.window)
    last = torch.arange(n - method.window, n, device=k.device).expand(b, kv, -1)
    return torch.cat([best, last], -1).sort(-1).values


@torch.no_grad()
def passed_on(method, q, k):
    """FastKV: ascending positions of the tokens that go on after the TSP layer, (B, kept)"""
    n, w = k.shape[2], method.window
    best = top(window_scores(q, k, method).sum(1), int(n * method.tsp_rate) - w)
    last = torch.arange(n - w, n, device=k.device).expand(len(best), -1)
    return torch.cat([best, last], -1).sort(-1).values


def chunk_attention(q, k, v):
    """The last A tokens on a cache that ends in them: q (B, H, A, D), k and v (B, K, M, D) -> (B, H, A, D)"""
    b, h, a, d = q.shape
    kv, m = k.shape[1], k.shape[2]
    ok = torch.ones(a, m, dtype=torch.bool, device=q.device).tril(m - a).repeat(h // kv, 1)
    q = q.reshape(
        b, kv, h // kv * a, d
    )  # the queries of one group side by side: no copy of keys and values per query head
    return F.scaled_dot_product_attention(q, k, v, attn_mask=ok).reshape(b, h, a, d)


def gather(z, dim, index):
    """z[..., index, :] along dim, index one dimension short of z"""
    return z.gather(dim, index[..., None].expand(*index.shape, z.shape[-1]))
