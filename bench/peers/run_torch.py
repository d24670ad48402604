"""Measures PyTorch and transformers on one device; compare_transformers.py starts it.

A process of its own, so that the device's memory is free again when fastkv runs. Writes what it
knows to --json after every measurement, so that an early end loses little.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor

from arguments import Repeats, names, positive, positive_list
from gpu_report import PeerMeasurement
from shapes import LARGE_SHAPES, SHAPES
from torch_ceilings import attention_flops, copy_bytes_per_second, gemm_flops
from torch_device import BACKENDS, TorchDevice, prompt_attention, step_attention
from torch_fastkv import TorchFastKV, default_options
from torch_model import Transformers, random_model

WARMUP_STEPS = 3


class Program(Protocol):
    name: str

    def prefill(self, ids: Tensor) -> tuple[Tensor, Any]: ...
    def step(self, token: Tensor, cache: Any) -> Tensor: ...


@dataclass
class TorchResults:
    device: str
    versions: dict[str, str]
    gemm_flops: float | None = None
    copy_bytes_per_second: float | None = None
    attention: list[dict[str, object]] = field(default_factory=list)
    measurements: list[PeerMeasurement] = field(default_factory=list)


def versions() -> dict[str, str]:
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    if torch.backends.cudnn.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Measurer:
    def __init__(self, options: argparse.Namespace) -> None:
        self.o = options
        self.device = TorchDevice(options.device)
        self.backends: list[str] = options.attention or self.device.default_backends
        self.repeats = Repeats(options.repeats, options.long_repeats)
        self.results = TorchResults(self.device.description, versions())

    def measure_all(self) -> None:
        if "ceilings" not in self.o.skip:
            self.measure_ceilings()
        kinds = {"transformers": self._transformers, "torch-fastkv": self._torch_fastkv}
        makers = [make for kind, make in kinds.items() if kind not in self.o.skip]
        if not makers:
            return
        shape = {**SHAPES, **LARGE_SHAPES}[self.o.shape]
        start = time.perf_counter()
        self.model = random_model(shape, self.device.name)
        self.device.synchronize()
        print(f"weights of {shape.name} drawn in {time.perf_counter() - start:.1f} s", flush=True)
        for context in self.o.context:
            for make in makers:
                self.measure_program(make(), context)

    def _transformers(self) -> Program:
        return Transformers(self.model)

    def _torch_fastkv(self) -> Program:
        config = self.model.config
        return TorchFastKV(
            self.model, default_options(config.num_hidden_layers, config.hidden_size)
        )

    def measure_ceilings(self) -> None:
        self.results.gemm_flops = gemm_flops(self.device)
        self.results.copy_bytes_per_second = copy_bytes_per_second(self.device)
        print(
            f"ceilings: GEMM {self.results.gemm_flops / 1e12:.4g} TFLOP/s, "
            f"copy {self.results.copy_bytes_per_second / 1e9:.4g} GB/s",
            flush=True,
        )
        for context in self.o.context:
            for backend in self.backends:
                self._measure_attention(backend, context)
                self.device.release()
                self.write()

    def _measure_attention(self, backend: str, context: int) -> None:
        what = f"ceiling: {backend} attention, {context} tokens"
        try:
            flops = attention_flops(self.device, backend, context)
        except RuntimeError as error:
            print(f"{what}: {first_line(error)}", flush=True)
            return
        self.results.attention.append({"backend": backend, "context": context, "flops": flops})
        print(f"{what}: {flops / 1e12:.4g} TFLOP/s", flush=True)

    def measure_program(self, program: Program, context: int) -> None:
        """The prompt with every backend; new tokens after the first backend that works."""
        decode = "decode" not in self.o.skip
        for backend in self.backends:
            m = PeerMeasurement(program.name, backend, context)
            try:
                self._measure_prompt(program, m, decode)
                decode = False
            except RuntimeError as error:  # too little memory, or no such kernel
                m.failure = first_line(error)
            self.device.release()
            self.results.measurements.append(m)
            self.write()
            print(m.sentence(), flush=True)

    def _measure_prompt(self, program: Program, m: PeerMeasurement, decode: bool) -> None:
        """Fills in `m`. After an untimed prompt of the same length."""
        ids = torch.randint(self.model.config.vocab_size, (1, m.context), device=self.device.name)
        state: tuple[Tensor, Any] | None = None

        def prefill() -> None:
            nonlocal state
            state = program.prefill(ids)

        with prompt_attention(m.attention):
            prefill()
            for _ in range(self.repeats.at(m.context)):
                state = None  # the next prompt has the memory of this cache
                self.device.reset_peak_memory()
                m.prefill_runs.append(self.device.seconds(prefill))
                m.peak_memory = self.device.peak_memory()
        if decode and state is not None:
            with step_attention():
                m.step_seconds = self._seconds_a_step(program.step, *state)

    def _seconds_a_step(
        self, step: Callable[[Tensor, Any], Tensor], logits: Tensor, cache: Any
    ) -> float:
        """Greedy steps that follow each other without waiting, which favours the peer."""
        token = logits.argmax(-1, keepdim=True)

        def steps(count: int) -> None:
            nonlocal token
            for _ in range(count):
                token = step(token, cache).argmax(-1, keepdim=True)

        steps(WARMUP_STEPS)
        return self.device.seconds(lambda: steps(self.o.tokens)) / self.o.tokens

    def write(self) -> None:
        self.o.json.write_text(json.dumps(asdict(self.results), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--device", choices=["cuda", "cpu"], required=True)
    add("--shape", choices={**SHAPES, **LARGE_SHAPES}, required=True)
    add("--context", type=positive_list, required=True)
    add("--attention", type=names(BACKENDS), default=[])
    add("--repeats", type=positive, required=True)
    add("--long-repeats", type=positive, required=True)
    add("--tokens", type=positive, required=True)
    add("--skip", type=names(), default=[])
    add("--json", type=Path, required=True)
    measurer = Measurer(parser.parse_args())
    measurer.write()
    with torch.inference_mode():
        measurer.measure_all()
    measurer.write()


if __name__ == "__main__":
    main()
