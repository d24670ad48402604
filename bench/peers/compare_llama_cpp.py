"""Times fastkv beside llama.cpp on one machine: the same shape with random weights, the same
threads and prompt lengths. The two take turns, so that both see the same machine.

Each measurement is a process of its own, which first runs a short prompt untimed. Prefill is one
prompt of random ids; decode is the median of the greedy steps after it. The table shows medians
over the repeats.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from arguments import positive, positive_list
from random_gguf import WEIGHT_TYPES, write_random_gguf
from report import LLAMA_CPP, Measurement, Results, ceilings_line, summarize, table, to_json
from shapes import SHAPES, Shape

HERE = Path(__file__).resolve().parent


class Stop(Exception):
    """Ends the measuring early; what was measured is still printed."""


class Failure(Stop):
    """A program did not do its part."""


class Runner:
    """Starts both programs with the same setting until the time is used up."""

    def __init__(self, options: argparse.Namespace, shape: Shape) -> None:
        self.o = options
        self.shape = shape
        self.gguf: Path = options.cache / f"{shape.name}.{options.gguf_type}.gguf"
        self.config: Path = options.cache / f"{shape.name}.config.json"
        self.deadline = time.monotonic() + 60 * options.time_limit
        self.results = Results()

    def prepare(self) -> None:
        """Writes what the programs load. A GGUF file is kept for the next time."""
        self.o.cache.mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps(self.shape.config_json(), indent=1) + "\n")
        if not self.gguf.exists():
            print(f"writing {self.gguf}", flush=True)
            write_random_gguf(self.gguf, self.shape, self.o.gguf_type)

    def measure_all(self) -> None:
        """In rounds, so that slow changes of the machine meet all rows; who begins alternates."""
        Run = Callable[[int, int], list[Measurement]]
        turns: list[Run] = [self.run_llama_cpp, self.run_fastkv]
        for repeat in range(self.o.repeats):
            for context in self.o.context:
                for run in turns:
                    self._record(run(context, repeat))
                turns.reverse()

    def run_llama_cpp(self, context: int, repeat: int) -> list[Measurement]:
        output = self._run(
            [sys.executable, HERE / "run_llama_cpp.py", self.gguf]
            + ["--context", context, "--warmup-context", self.o.warmup_context]
            + ["--tokens", self.o.tokens, "--threads", self.o.threads]
        )
        result = json.loads(output)
        self.results.llama_cpp = result["setting"]
        seconds = (result["prefill_seconds"], result["step_seconds"])
        return [Measurement(LLAMA_CPP, context, repeat, *seconds)]

    def run_fastkv(self, context: int, repeat: int) -> list[Measurement]:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "bench.json"
            self._run([*self.fastkv_command(context), "--json", file])
            result = json.loads(file.read_text())
        self.results.gemm_flops.append(result["gemm_flops"])
        self.results.read_bytes_per_second.append(result["memory_bytes_per_second"])
        rows = result["rows"]
        timed = rows[len(rows) // 2 :]  # the first half is the warm-up's
        return [
            Measurement(
                f"fastkv, {row['method']}",
                context,
                repeat,
                row["prefill_seconds"],
                row["step_seconds"],
            )
            for row in timed
        ]

    def fastkv_command(self, context: int) -> list[object]:
        weights = self.shape.name if self.shape.is_fastkv_preset else self.config
        return (
            [self.o.fastkv, "bench", "--random-weights", weights, "--dtype", "bfloat16"]
            + ["--device", "cpu", "--threads", self.o.threads, "--method", self.o.method]
            + ["--context", f"{self.o.warmup_context},{context}", "-n", self.o.tokens]
            + ["--warmup", 0, "--repeats", 1, *shlex.split(self.o.fastkv_options)]
        )

    def _record(self, measurements: list[Measurement]) -> None:
        self.results.measurements += measurements
        for m in measurements:
            print(
                f"round {m.repeat + 1} of {self.o.repeats}, {m.context} tokens, {m.program}: "
                f"prefill {m.context / m.prefill_seconds:.1f} tok/s, "
                f"decode {1 / m.step_seconds:.1f} tok/s",
                flush=True,
            )

    def _run(self, command: list[object]) -> str:
        """Standard output of a program, which must succeed before the time is over."""
        words = [str(word) for word in command]
        left = max(self.deadline - time.monotonic(), 0.0)
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            raise Stop(f"The time limit of {self.o.time_limit:g} minutes is reached.") from None
        except KeyboardInterrupt:
            raise Stop("Interrupted.") from None
        if done.returncode != 0:
            raise Failure(f"{shlex.join(words)}\nended with {done.returncode}:\n{done.stderr}")
        return done.stdout


def cpu_description() -> str:
    """The processor's name, and which of the vector extensions it has that decide the speed."""
    info: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    flags = info.get("flags", info.get("Features", "")).split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
    extensions = ", ".join(flag for flag in wanted if flag in flags)
    return f"{info.get('model name', platform.machine())} ({extensions or 'extensions unknown'})"


def fastkv_version(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def setting_of(runner: Runner) -> dict[str, object]:
    """What must be known to read the figures."""
    o = runner.o
    return {
        "cpu": cpu_description(),
        "system": platform.platform(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "fastkv": fastkv_version(o.fastkv),
        "fastkv_command": shlex.join(str(word) for word in runner.fastkv_command(o.context[-1])),
        "shape": asdict(runner.shape),
        "threads": o.threads,
        "contexts": o.context,
        "warmup_context": o.warmup_context,
        "tokens": o.tokens,
        "repeats": o.repeats,
        "gguf_type": o.gguf_type,
    }


def parse_arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastkv-peers"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--fastkv", type=Path, default=HERE.parent.parent / "build" / "fastkv", help="our program")
    add("--shape", choices=SHAPES, default="llama-3.2-1b", help="what both run")
    add("--method", default="full,fastkv", help="methods of fastkv, or all")
    add("--fastkv-options", default="", help="more options of fastkv bench, as one argument")
    add("--context", type=positive_list, default="512,4096,16384", help="prompt lengths in tokens")
    add("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of each program")
    add("--tokens", type=positive, default=32, help="new tokens after each prompt, 2 or more")
    add("--repeats", type=positive, default=3, help="rounds over all contexts")
    add("--warmup-context", type=positive, default=512, help="untimed prompt of each process")
    add("--time-limit", type=float, default=60.0, help="minutes; then the table has what there is")
    add("--gguf-type", choices=WEIGHT_TYPES, default="bf16", help="llama.cpp's weights")
    add("--cache", type=Path, default=cache, help="directory of GGUF files; they are kept")
    add("--json", type=Path, help="write the rows, every measurement and the setting")
    o = parser.parse_args()
    if not os.access(o.fastkv, os.X_OK):
        parser.error(f"there is no program {o.fastkv}; build it, or name another with --fastkv")
    return o


def main() -> int:
    o = parse_arguments()
    runner = Runner(o, SHAPES[o.shape])
    setting = setting_of(runner)
    print(
        f"{setting['fastkv']} beside llama.cpp: {o.shape}, {o.threads} threads, {setting['cpu']}, "
        f"load average {setting['load_average_before']}",
        flush=True,
    )
    runner.prepare()
    status = 0
    try:
        runner.measure_all()
    except Stop as stop:
        print(stop, file=sys.stderr)
        status = 1 if isinstance(stop, Failure) else 0

    rows = list(summarize(runner.results, runner.shape))
    if runner.results.gemm_flops:
        print(f"\n{ceilings_line(runner.results)}")
    print(f"\n{table(rows)}", end="")
    if o.json:
        o.json.write_text(json.dumps(to_json(runner.results, rows, setting), indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
