"""What was measured beside transformers, and the tables made of it."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from report import markdown, percent, ratio

TRANSFORMERS = "transformers"
TORCH_FASTKV = "PyTorch FastKV"


@dataclass
class PeerMeasurement:
    """Prompts of one length through one program with one attention backend."""

    program: str
    attention: str
    context: int
    prefill_runs: list[float] = field(default_factory=list)  # seconds
    peak_memory: int | None = None  # bytes of a prefill
    step_seconds: float | None = None  # one new token
    failure: str | None = None  # why times are missing

    @property
    def prefill_seconds(self) -> float | None:
        return statistics.median(self.prefill_runs) if self.prefill_runs else None

    def sentence(self) -> str:
        text = f"{self.program}, {self.attention}, {self.context} tokens: "
        parts = []
        if self.prefill_seconds is not None:
            parts.append(f"prefill {self.prefill_seconds:.3f} s")
        if self.step_seconds is not None:
            parts.append(f"decode {1e3 * self.step_seconds:.2f} ms a token")
        if self.failure is not None:
            parts.append(f"stopped: {self.failure}")
        return text + ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """Our method at a context beside the peers' best. Ratios are the peer's time over ours."""

    context: int
    method: str
    prefill_seconds: float
    prefill_spread: float
    over_floor: float
    transformers_seconds: float | None
    transformers_ratio: float | None
    torch_fastkv_seconds: float | None  # of method fastkv only
    torch_fastkv_ratio: float | None
    step_seconds: float
    transformers_step_seconds: float | None
    step_ratio: float | None
    peak_memory: int
    transformers_peak_memory: int | None


class Peers:
    """The best of each program over the attention backends."""

    def __init__(self, measurements: list[PeerMeasurement]) -> None:
        self._all = measurements

    def _values(self, program: str, context: int, name: str) -> list[Any]:
        found = (m for m in self._all if m.program == program and m.context == context)
        return [value for m in found if (value := getattr(m, name)) is not None]

    def best(self, program: str, context: int, name: str) -> Any | None:
        return min(self._values(program, context, name), default=None)


def over(peer: float | None, ours: float) -> float | None:
    return peer / ours if peer is not None and ours > 0 else None


def make_row(ours: dict[str, Any], peers: Peers) -> Row:
    """`ours` is a row of fastkv bench."""
    context, method = ours["context"], ours["method"]
    prefill, step = ours["prefill_seconds"], ours["step_seconds"]
    full = peers.best(TRANSFORMERS, context, "prefill_seconds")
    full_step = peers.best(TRANSFORMERS, context, "step_seconds")
    torch_fastkv = None
    if method == "fastkv":
        torch_fastkv = peers.best(TORCH_FASTKV, context, "prefill_seconds")
    return Row(
        context=context,
        method=method,
        prefill_seconds=prefill,
        prefill_spread=ours["prefill_spread"],
        over_floor=ours["prefill_over_floor"],
        transformers_seconds=full,
        transformers_ratio=over(full, prefill),
        torch_fastkv_seconds=torch_fastkv,
        torch_fastkv_ratio=over(torch_fastkv, prefill),
        step_seconds=step,
        transformers_step_seconds=full_step,
        step_ratio=over(full_step, step),
        peak_memory=ours["peak_memory"],
        transformers_peak_memory=peers.best(TRANSFORMERS, context, "peak_memory"),
    )


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def milliseconds(value: float | None) -> str:
    return f"{1e3 * value:.2f}" if value else ""


def gibibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**30:.1f}"


def comparison_table(rows: list[Row]) -> str:
    def cells(r: Row) -> dict[str, str]:
        return {
            "context": str(r.context),
            "method": r.method,
            "prefill s": seconds(r.prefill_seconds),
            "+-": percent(r.prefill_spread),
            "over floor": f"{r.over_floor:.2f}",
            "transformers s": seconds(r.transformers_seconds),
            "ratio": ratio(r.transformers_ratio),
            "PyTorch FastKV s": seconds(r.torch_fastkv_seconds),
            "its ratio": ratio(r.torch_fastkv_ratio),
            "decode ms": milliseconds(r.step_seconds),
            "transformers ms": milliseconds(r.transformers_step_seconds),
            "decode ratio": ratio(r.step_ratio),
            "peak GiB": gibibytes(r.peak_memory),
            "transformers GiB": gibibytes(r.transformers_peak_memory),
        }

    return markdown([cells(r) for r in rows], left={"method"})


def peers_table(measurements: list[PeerMeasurement]) -> str:
    def cells(m: PeerMeasurement) -> dict[str, str]:
        return {
            "context": str(m.context),
            "program": m.program,
            "attention": m.attention,
            "prefill s": seconds(m.prefill_seconds),
            "decode ms": milliseconds(m.step_seconds),
            "peak GiB": gibibytes(m.peak_memory),
            "note": m.failure or "",
        }

    return markdown([cells(m) for m in measurements], left={"program", "attention", "note"})
