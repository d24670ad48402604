"""What was measured, and the table and JSON made of it."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from shapes import Shape

LLAMA_CPP = "llama.cpp"
FULL_WORK = (LLAMA_CPP, "fastkv, full")  # programs that run every prompt token through every layer


@dataclass(frozen=True)
class Measurement:
    """One prompt of one process. `program` is llama.cpp, or fastkv with a method."""

    program: str
    context: int
    repeat: int
    prefill_seconds: float
    step_seconds: float  # one new token


@dataclass
class Results:
    measurements: list[Measurement] = field(default_factory=list)
    gemm_flops: list[float] = field(default_factory=list)  # ceilings that fastkv measured
    read_bytes_per_second: list[float] = field(default_factory=list)
    llama_cpp: dict[str, object] = field(default_factory=dict)  # its versions and setting


@dataclass(frozen=True)
class Row:
    """A program at a context: medians over the repeats; ratios to llama.cpp, above 1 is faster."""

    context: int
    program: str
    repeats: int
    prefill_seconds: float
    prefill_spread: float  # half the distance between the extremes, relative to the median
    prefill_tokens_per_second: float
    prefill_ratio: float | None
    linear_share_of_gemm_rate: float | None  # FLOPs of the linear layers a second, of the ceiling
    decode_tokens_per_second: float
    decode_ratio: float | None


def summarize(results: Results, shape: Shape) -> Iterator[Row]:
    """One row for each context and program, llama.cpp first."""
    groups: dict[tuple[int, str], list[Measurement]] = {}
    for m in sorted(results.measurements, key=lambda m: (m.context, m.program != LLAMA_CPP)):
        groups.setdefault((m.context, m.program), []).append(m)
    prefill = {k: statistics.median(m.prefill_seconds for m in g) for k, g in groups.items()}
    step = {k: statistics.median(m.step_seconds for m in g) for k, g in groups.items()}
    for key, group in groups.items():
        context, program = key
        peer = (context, LLAMA_CPP)
        times = [m.prefill_seconds for m in group]
        share = None
        if results.gemm_flops and program in FULL_WORK:
            linear_flops = 2.0 * shape.linear_parameters * context
            share = linear_flops / prefill[key] / statistics.median(results.gemm_flops)
        yield Row(
            context=context,
            program=program,
            repeats=len(group),
            prefill_seconds=prefill[key],
            prefill_spread=(max(times) - min(times)) / 2 / prefill[key],
            prefill_tokens_per_second=context / prefill[key],
            prefill_ratio=prefill[peer] / prefill[key] if peer in prefill else None,
            linear_share_of_gemm_rate=share,
            decode_tokens_per_second=1 / step[key],
            decode_ratio=step[peer] / step[key] if peer in step else None,
        )


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def cells_of(row: Row) -> dict[str, str]:
    """Heading and text of each column."""
    return {
        "context": str(row.context),
        "program": row.program,
        "prefill s": f"{row.prefill_seconds:.2f}",
        "+-": percent(row.prefill_spread),
        "prefill tok/s": f"{row.prefill_tokens_per_second:.1f}",
        "prefill ratio": ratio(row.prefill_ratio),
        "linear/GEMM": percent(row.linear_share_of_gemm_rate),
        "decode tok/s": f"{row.decode_tokens_per_second:.1f}",
        "decode ratio": ratio(row.decode_ratio),
        "runs": str(row.repeats),
    }


def markdown(cells: list[dict[str, str]], left: set[str]) -> str:
    """A Markdown table, aligned so that it reads as plain text too. Every row has the headings of
    the first; the columns `left` are aligned there, the others right."""
    if not cells:
        return "nothing was measured\n"
    widths = {head: max(len(head), *(len(c[head]) for c in cells)) for head in cells[0]}

    def line(texts: dict[str, str]) -> str:
        padded = (t.ljust(widths[h]) if h in left else t.rjust(widths[h]) for h, t in texts.items())
        return f"| {' | '.join(padded)} |\n"

    heads = line({head: head for head in widths})
    rule = line({h: "-" * w if h in left else "-" * (w - 1) + ":" for h, w in widths.items()})
    return heads + rule + "".join(line(c) for c in cells)


def table(rows: list[Row]) -> str:
    return markdown([cells_of(row) for row in rows], left={"program"})


def ceilings_line(results: Results) -> str:
    gemm = statistics.median(results.gemm_flops) / 1e9
    read = statistics.median(results.read_bytes_per_second) / 1e9
    return (
        f"ceilings, as fastkv measured them: GEMM {gemm:.1f} GFLOP/s, memory read {read:.2f} GB/s"
    )


def to_json(results: Results, rows: list[Row], setting: dict[str, object]) -> dict[str, object]:
    return {
        "setting": setting,
        "llama_cpp": results.llama_cpp,
        "gemm_flops": results.gemm_flops,
        "read_bytes_per_second": results.read_bytes_per_second,
        "rows": [asdict(row) for row in rows],
        "measurements": [asdict(m) for m in results.measurements],
    }
