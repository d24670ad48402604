"""Times fastkv beside PyTorch and transformers on one GPU: the same shapes with random bfloat16
weights, the same prompt lengths, in one call.

First PyTorch's part, in a process of its own: what its libraries reach at best, full KV through
transformers, FastKV in plain PyTorch. Then `fastkv bench`, with the best attention rate found as
the ceiling of its floor. The table sets our times beside the peers' best.
"""

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arguments import Repeats, names, positive, positive_list
from gpu_report import PeerMeasurement, Peers, Row, comparison_table, make_row, peers_table
from shapes import LARGE_SHAPES, SHAPES, Shape

HERE = Path(__file__).resolve().parent
ALL_SHAPES = {**LARGE_SHAPES, **SHAPES}
PARTS = ["ceilings", "transformers", "torch-fastkv", "decode", "fastkv"]
TORCH_PARTS = {"ceilings", "transformers", "torch-fastkv"}


class Failure(Exception):
    """A program did not do its part."""


class Comparison:
    """Runs the parts one after the other; what a part found stays when a later one fails."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.o = options
        self.shape: Shape = ALL_SHAPES[options.shape]
        self.directory = directory  # of files that pass between the programs
        self.start = time.monotonic()
        self.torch: dict[str, Any] = {}
        self.fastkv_runs: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", flush=True)

    def measure_all(self) -> None:
        if TORCH_PARTS - set(self.o.skip):
            self.say("PyTorch starts")
            try:
                self.run_torch()
            except Failure as failure:
                if not self.torch.get("measurements"):
                    raise
                self.say(f"{failure} What it measured before is used.")
        if "fastkv" not in self.o.skip:
            for contexts, repeats in self.rounds():
                self.say(f"fastkv starts: contexts {', '.join(map(str, contexts))}")
                self.run_fastkv(contexts, repeats)
        self.say("done")

    def run_torch(self) -> None:
        file = self.directory / "torch.json"
        try:
            self._run(self.torch_command(file))
        finally:
            if file.exists():
                self.torch = json.loads(file.read_text())

    def torch_command(self, file: Path) -> list[str]:
        o = self.o
        return [
            *(sys.executable, str(HERE / "run_torch.py"), "--device", o.device),
            *("--shape", o.shape, "--context", ",".join(map(str, o.context))),
            *("--attention", ",".join(o.attention), "--skip", ",".join(o.skip)),
            *("--repeats", str(o.repeats), "--long-repeats", str(o.long_repeats)),
            *("--tokens", str(o.tokens), "--json", str(file)),
        ]

    def rounds(self) -> list[tuple[list[int], int]]:
        """Contexts that have the same number of repeats; fastkv takes one number a call."""
        repeats = Repeats(self.o.repeats, self.o.long_repeats)
        counts = dict.fromkeys(repeats.at(context) for context in self.o.context)
        return [([c for c in self.o.context if repeats.at(c) == n], n) for n in counts]

    def run_fastkv(self, contexts: list[int], repeats: int) -> None:
        file = self.directory / "fastkv.json"
        command = self.fastkv_command(contexts, repeats)
        self._run([*command, "--json", str(file)])
        self.fastkv_runs.append({**json.loads(file.read_text()), "command": shlex.join(command)})

    def fastkv_command(self, contexts: list[int], repeats: int) -> list[str]:
        o = self.o
        weights = self.shape.name
        if not self.shape.is_fastkv_preset:
            weights = str(self.directory / "config.json")
            Path(weights).write_text(json.dumps(self.shape.config_json(), indent=1) + "\n")
        prefill_alone = "decode" in o.skip
        command = [
            *(str(o.fastkv), "bench", "prefill" if prefill_alone else "e2e"),
            *("--device", o.device, "--random-weights", weights, "--no-sliding-window"),
            *("--dtype", "bfloat16", "--context", ",".join(map(str, contexts))),
            *("--method", o.method, "--repeats", str(repeats), "--warmup", "1"),
            *(() if prefill_alone else ("-n", str(o.tokens))),
        ]
        if attention := self.best_attention_flops():
            command += ["--attention-ceiling", f"{attention / 1e12:.6g}"]
        return command + shlex.split(o.fastkv_options)

    def best_attention_flops(self) -> float:
        """Over backends and contexts; 0 where none was measured."""
        return max((a["flops"] for a in self.torch.get("attention", [])), default=0.0)

    def _run(self, command: Sequence[str]) -> None:
        """Passes the program's lines on as they come, with the time before them."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    self.say(line.rstrip())
        if process.returncode != 0:
            raise Failure(f"{shlex.join(command)} ended with {process.returncode}.")

    def measurements(self) -> list[PeerMeasurement]:
        return [PeerMeasurement(**m) for m in self.torch.get("measurements", [])]

    def rows(self) -> list[Row]:
        peers = Peers(self.measurements())
        return [make_row(row, peers) for run in self.fastkv_runs for row in run["rows"]]

    def ceilings_line(self) -> str:
        gemm, copy = self.torch.get("gemm_flops"), self.torch.get("copy_bytes_per_second")
        if not gemm or not copy:
            return "no ceilings of PyTorch were measured"
        ours = "".join(
            f"; fastkv's own: GEMM {run['gemm_flops'] / 1e12:.4g} TFLOP/s"
            for run in self.fastkv_runs[:1]
        )
        return (
            f"ceilings: GEMM {gemm / 1e12:.4g} TFLOP/s, best attention "
            f"{self.best_attention_flops() / 1e12:.4g} TFLOP/s, copy {copy / 1e9:.4g} GB/s{ours}"
        )

    def to_json(self) -> dict[str, object]:
        return {
            "setting": {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": shlex.join([sys.executable, *sys.argv]),
                "device": self.torch.get("device"),
                "versions": {"fastkv": fastkv_version(self.o), **self.torch.get("versions", {})},
                "shape": asdict(self.shape),
                "seconds": round(time.monotonic() - self.start, 1),
            },
            "torch": self.torch,
            "fastkv": self.fastkv_runs,
            "rows": [asdict(row) for row in self.rows()],
        }

    def print_tables(self) -> None:
        print(f"\n{self.ceilings_line()}")
        if measurements := self.measurements():
            print(f"\n{peers_table(measurements)}", end="")
        if rows := self.rows():
            print(f"\n{comparison_table(rows)}", end="")


def fastkv_version(o: argparse.Namespace) -> str | None:
    if "fastkv" in o.skip:
        return None
    done = subprocess.run([o.fastkv, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--fastkv", type=Path, default=HERE.parent.parent / "build" / "fastkv", help="our program")
    add("--shape", choices=ALL_SHAPES, default="llama-3.1-8b", help="what all run")
    add("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try the program")
    add("--method", "--methods", default="full,fastkv", help="methods of fastkv, or all")
    add("--fastkv-options", default="", help="more options of fastkv bench, as one argument")
    add("--context", type=positive_list, default="8192,32768,131072", help="prompt lengths")
    add(
        "--attention",
        type=names(["flash", "cudnn", "math"]),
        default=[],
        help="attention backends of PyTorch, with commas; flash,cudnn, on a processor math",
    )
    add("--repeats", type=positive, default=3, help="timed prompts after one untimed")
    add("--long-repeats", type=positive, default=1, help="the same from 65536 tokens on")
    add("--tokens", type=positive, default=32, help="new tokens after a prompt, 2 or more")
    add("--skip", type=names(PARTS), default=[], help=f"parts to leave out: {', '.join(PARTS)}")
    add("--json", type=Path, help="write every measurement and the setting")
    o = parser.parse_args()
    o.context = sorted(set(o.context))
    if o.tokens < 2:
        parser.error("--tokens needs 2 or more")
    if "fastkv" not in o.skip and not os.access(o.fastkv, os.X_OK):
        parser.error(f"there is no program {o.fastkv}; build it, or name another with --fastkv")
    if o.json and not o.json.absolute().parent.is_dir():
        parser.error(f"there is no directory {o.json.absolute().parent} for --json")
    for package in ("torch", "transformers"):
        if TORCH_PARTS - set(o.skip) and importlib.util.find_spec(package) is None:
            parser.error(
                f"this Python has no {package}; install bench/peers/requirements-torch.txt"
            )
    return o


def main() -> int:
    o = parse_arguments()
    status = 0
    with tempfile.TemporaryDirectory() as directory:
        comparison = Comparison(o, Path(directory))
        try:
            comparison.measure_all()
        except Failure as failure:
            print(failure, file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            status = 1
        if o.json:
            o.json.write_text(json.dumps(comparison.to_json(), indent=1) + "\n")
        if comparison.torch or comparison.fastkv_runs:
            comparison.print_tables()
    return status


if __name__ == "__main__":
    sys.exit(main())
