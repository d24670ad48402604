"""A LLaMA decoder for training, and its run under a compressed KV cache.

Letters: B sequences, N tokens each, T = B * N, C hidden size, H query heads, K key/value heads, D head size,
A answer tokens, L layers, V vocabulary.
"""

import contextlib
import dataclasses
import glob
import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


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


# ---- KV cache methods -----------------------------------------------------------------------------------------------


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
        keep = torch.cat([torch.arange(method.sinks, device=k.device), torch.arange(n - size + method.sinks, n, device=k.device)])
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


def answer_attention(q, k, v, cache_k, cache_v):
    """A causal chunk on a cache: q (B, H, A, D), k and v (B, K, A, D), cache (B, K, M, D) -> (B, H, A, D)"""
    b, h, a, d = q.shape
    kv, m = k.shape[1], cache_k.shape[2]
    ok = torch.ones(a, m + a, dtype=torch.bool, device=q.device).tril(m)
    q = q.reshape(b, kv, h // kv * a, d)  # the queries of one group side by side: no copy of keys and values per query head
    o = F.scaled_dot_product_attention(q, torch.cat([cache_k, k], 2), torch.cat([cache_v, v], 2), attn_mask=ok.repeat(h // kv, 1))
    return o.reshape(b, h, a, d)


# ---- the model ------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        self.c = c
        self.input_layernorm = nn.Parameter(torch.ones(c.hidden_size))
        self.post_attention_layernorm = nn.Parameter(torch.ones(c.hidden_size))

        def matrix(rows, cols, scale=1.0):
            return nn.Parameter(torch.randn(rows, cols) * scale / math.sqrt(cols))

        self.q_proj, self.k_proj, self.v_proj = matrix(q, c.hidden_size), matrix(kv, c.hidden_size), matrix(kv, c.hidden_size)
        self.o_proj = matrix(c.hidden_size, q, 0.3)
        self.gate_proj, self.up_proj = matrix(c.intermediate_size, c.hidden_size), matrix(c.intermediate_size, c.hidden_size)
        self.down_proj = matrix(c.hidden_size, c.intermediate_size, 0.3)

    def project(self, x, cos, sin):
        return project(x, cos, sin, self.input_layernorm, self.q_proj, self.k_proj, self.v_proj, self.c.head_dim, self.c.rms_norm_eps)

    def finish(self, x, o):
        return finish(
            x, o, self.o_proj, self.post_attention_layernorm, self.gate_proj, self.up_proj, self.down_proj, self.c.rms_norm_eps
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

    def forward(self, ids, pos):
        """ids, pos (B, N) -> outputs of the TSP layer and of the last layer, (B, N, C)"""
        shape = ids.shape
        x = F.embedding(ids.reshape(-1), self.embed_tokens).to(self.dtype)
        cos, sin = self.rope(pos.reshape(-1))
        for i, layer in enumerate(self.layers):
            x = layer.finish(x, causal_attention(*layer.project(x, cos, sin), shape))
            if i == self.c.tsp_layer:
                early = x
        return early.view(*shape, -1), x.view(*shape, -1)

    def compressed(self, prompt, answer, methods):
        """Prefill under each method, then the answer as one causal chunk on each compressed cache.

        prompt (B, N), answer (B, A), methods: a list -> hidden states that predict the answer (methods, B, A, C).
        Methods share the prompt's prefill until their TSP layer.
        """
        b, n = prompt.shape
        a, c, device = answer.shape[1], self.c, prompt.device
        x = F.embedding(prompt.reshape(-1), self.embed_tokens).to(self.dtype)
        streams = {None: (x, torch.arange(n, device=device).expand(b, n))}
        stream_of = {i: None for i in range(len(methods))}
        y = F.embedding(answer.expand(len(methods), b, a).reshape(-1), self.embed_tokens).to(self.dtype)
        y_rope = self.rope(torch.arange(n, n + a, device=device).repeat(len(methods) * b))

        def heads(z, m):
            return z.view(-1, m, *z.shape[1:]).transpose(1, 2)  # (B * M, heads, D) -> (B, heads, M, D)

        for l, layer in enumerate(self.layers):
            qa, ka, va = (heads(z, a) for z in layer.project(y, *y_rope))
            outs = [None] * len(methods)
            for key, (x, pos) in list(streams.items()):
                m = pos.shape[1]
                q, k, v = layer.project(x, *self.rope(pos.reshape(-1)))
                x = layer.finish(x, causal_attention(q, k, v, (b, m)))
                q, k, v = (heads(z, m) for z in (q, k, v))
                for i in [i for i in stream_of if stream_of[i] == key]:
                    keep = kept_positions(methods[i], q, k, l)
                    ck, cv = k, v
                    if keep is not None:
                        index = keep[..., None].expand(-1, -1, -1, c.head_dim)
                        ck, cv = k.gather(2, index), v.gather(2, index)
                    part = slice(i * b, (i + 1) * b)
                    outs[i] = answer_attention(qa[part], ka[part], va[part], ck, cv)
                    if methods[i].kind == "fastkv" and l == methods[i].tsp_layer:
                        on = passed_on(methods[i], q, k)
                        xs = x.view(b, m, -1).gather(1, on[..., None].expand(-1, -1, x.shape[-1]))
                        streams[i], stream_of[i] = (xs.reshape(-1, xs.shape[-1]), pos.gather(1, on)), i
                streams[key] = (x, pos)
            streams = {key: s for key, s in streams.items() if key in stream_of.values()}
            y = layer.finish(y, torch.cat(outs).transpose(1, 2).reshape(len(y), -1))
        y = y.view(len(methods), b, a, -1)
        last = torch.stack([streams[stream_of[i]][0].view(b, -1, y.shape[-1])[:, -1:] for i in range(len(methods))])
        return torch.cat([last, y[:, :, :-1]], 2)

    def logits(self, h):
        return F.linear(rms_norm(h, self.norm, self.c.rms_norm_eps), self.embed_tokens.to(h.dtype)).float()


def compile_blocks():
    """Compiles the halves of a layer and the loss; each count of tokens compiles once, for all layers."""
    global project, finish, scored_loss
    torch._dynamo.config.recompile_limit = 64
    project, finish, scored_loss = (torch.compile(f, dynamic=False) for f in (project, finish, token_loss))


# ---- Hugging Face directories ---------------------------------------------------------------------------------------


def hf_name(name):
    parts = name.split(".")
    if parts[0] == "layers":
        block = "mlp." if parts[2] in ("gate_proj", "up_proj", "down_proj") else "" if "norm" in parts[2] else "self_attn."
        return f"model.layers.{parts[1]}.{block}{parts[2]}.weight"
    return f"model.{name}.weight"


def save_hf(model, folder, shards=2):
    """bf16 weights in `shards` files with an index, and config.json; special token ids are the last five of the vocabulary."""
    tensors = {
        hf_name(n): p.detach().to("cpu", torch.bfloat16).contiguous()
        for n, p in model.named_parameters()
        if not n.startswith(("early", "look"))
    }
    total = sum(t.nbytes for t in tensors.values())
    parts, done = [{} for _ in range(shards)], 0
    for name in sorted(tensors):
        parts[min(shards - 1, done * shards // total)][name] = tensors[name]
        done += tensors[name].nbytes
    where = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, f"{folder}/{file}", metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
    c = model.c
    bos = c.vocab_size - 5
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **dataclasses.asdict(c),
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": bos,
        "eos_token_id": [bos + 1, bos + 4],
    }
    generation = {"bos_token_id": bos, "eos_token_id": [bos + 1, bos + 4], "do_sample": False}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    for file, content in (("config.json", config), ("generation_config.json", generation), ("model.safetensors.index.json", index)):
        with open(f"{folder}/{file}", "w") as f:
            f.write(json.dumps(content, indent=1) + "\n")


def load_hf(folder, dtype, device):
    """A model written by save_hf."""
    with open(f"{folder}/config.json") as f:
        config = json.load(f)
    c = Config(**{f.name: config[f.name] for f in dataclasses.fields(Config)})
    tensors = {}
    for file in sorted(glob.glob(f"{folder}/*.safetensors")):
        tensors.update(load_file(file))
    model = Model(c, dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith(("early", "look")):
                p.copy_(tensors[hf_name(name)].float())
    model.early_norm.data.copy_(model.norm.data)
    return model.to(device)
