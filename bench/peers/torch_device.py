"""What the measurements need of a PyTorch device: its clock, its memory, its attention kernels."""

import gc
import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
# Of new tokens. cuDNN is not among them: it plans anew for every length of the cache.
STEP_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
SHORTEST_TIMING = 0.02  # seconds; shorter work is timed several calls at once


def prompt_attention(backend: str) -> AbstractContextManager[None]:
    """In it, attention runs on this backend or raises RuntimeError."""
    return sdpa_kernel(BACKENDS[backend])


def step_attention() -> AbstractContextManager[None]:
    return sdpa_kernel(STEP_BACKENDS, set_priority=True)


class TorchDevice:
    def __init__(self, name: str) -> None:
        self.is_cuda = name == "cuda"
        if self.is_cuda and not torch.cuda.is_available():
            raise SystemExit(
                f"PyTorch {torch.__version__} sees no CUDA device; --device cpu tries the program "
                "without one."
            )
        self.name = name
        self.description = torch.cuda.get_device_name() if self.is_cuda else "CPU"

    @property
    def default_backends(self) -> list[str]:
        return ["flash", "cudnn"] if self.is_cuda else ["math"]

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """Time of one call until the device is done with it."""
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - start

    def median_seconds(self, work: Callable[[], object], repeats: int) -> float:
        """Time of a call after one that warms up."""
        work()
        calls = max(1, math.ceil(SHORTEST_TIMING / self.seconds(work)))

        def several() -> None:
            for _ in range(calls):
                work()

        return statistics.median(self.seconds(several) for _ in range(repeats)) / calls

    def reset_peak_memory(self) -> None:
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> int | None:
        """Bytes, weights included; PyTorch counts them on CUDA only."""
        return torch.cuda.max_memory_allocated() if self.is_cuda else None

    def release(self) -> None:
        """Gives memory that nothing refers to back to the device."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()
