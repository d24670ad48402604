"""What the libraries of PyTorch reach at best: one matrix product, attention, a copy."""

import torch
import torch.nn.functional as F

from torch_device import TorchDevice, prompt_attention

QUERY_HEADS = 32  # the heads of all large shapes
KV_HEADS = 8
HEAD_DIM = 128


def gemm_flops(device: TorchDevice) -> float:
    """FLOP/s of a square bfloat16 product of normal values; zeros would draw less power."""
    size = 8192 if device.is_cuda else 256
    a = torch.randn(size, size, device=device.name, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=device.name, dtype=torch.bfloat16)
    out = torch.empty_like(a)
    seconds = device.median_seconds(lambda: torch.mm(a, b, out=out), repeats=9)
    return 2.0 * size**3 / seconds


def copy_bytes_per_second(device: TorchDevice) -> float:
    """Bytes read and written a second."""
    count = 2**31 if device.is_cuda else 2**25
    source = torch.empty(count, device=device.name, dtype=torch.int8).fill_(1)
    target = torch.empty_like(source)
    return 2.0 * count / device.median_seconds(lambda: target.copy_(source), repeats=9)


def attention_flops(device: TorchDevice, backend: str, context: int) -> float:
    """FLOP/s of causal attention: n (n + 1) / 2 pairs, 4 D FLOPs each, for every query head."""

    def draw(heads: int) -> torch.Tensor:
        shape = (1, heads, context, HEAD_DIM)
        return torch.randn(shape, device=device.name, dtype=torch.bfloat16)

    q, k, v = draw(QUERY_HEADS), draw(KV_HEADS), draw(KV_HEADS)
    with prompt_attention(backend):
        seconds = device.median_seconds(
            lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
            repeats=3,
        )
    return 2.0 * context * (context + 1) * QUERY_HEADS * HEAD_DIM / seconds
