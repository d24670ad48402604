"""Times one prompt through llama.cpp and prints one line of JSON; compare_llama_cpp.py starts it.

A process of its own for each measurement, as fastkv has one: neither program holds memory or
threads while the other is timed. The C interface is called as llama.cpp's own llama-bench calls it,
so that no Python is in the timed part but one call for a batch.
"""

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Sequence

import llama_cpp
import numpy as np

BATCH = 512  # tokens a call (n_batch) and tokens at once in a layer (n_ubatch)
LOG_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR of ggml.h


class Model:
    """A loaded model with one sequence."""

    def __init__(self, path: str, positions: int, threads: int) -> None:
        self._model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = positions
        params.n_batch = BATCH
        params.n_ubatch = BATCH
        params.n_threads = threads
        params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise SystemExit(f"llama.cpp has no memory for a context of {positions} tokens")
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def clear(self) -> None:
        """Forgets the sequence."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def append(self, ids: Sequence[int]) -> int:
        """Runs the tokens and returns the most likely next one."""
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            tokens = (llama_cpp.llama_token * len(part))(*part)
            status = llama_cpp.llama_decode(
                self._context, llama_cpp.llama_batch_get_one(tokens, len(part))
            )
            if status != 0:
                raise SystemExit(f"llama_decode failed with {status}")
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)  # waits for the result
        return int(np.ctypeslib.as_array(logits, (self.vocabulary_size,)).argmax())


def random_prompt(length: int, vocabulary_size: int) -> list[int]:
    ids = np.random.default_rng(length).integers(vocabulary_size, size=length)
    return [int(i) for i in ids]


def measure(model: Model, context: int, tokens: int) -> dict[str, float]:
    """Seconds of a prompt of random ids, and of the median of the greedy steps after it."""
    model.clear()
    prompt = random_prompt(context, model.vocabulary_size)
    start = time.perf_counter()
    token = model.append(prompt)
    prefill = time.perf_counter() - start
    steps = []
    for _ in range(tokens):
        start = time.perf_counter()
        token = model.append([token])
        steps.append(time.perf_counter() - start)
    return {"prefill_seconds": prefill, "step_seconds": statistics.median(steps)}


def log_errors(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--context", type=int, required=True, help="prompt tokens")
    parser.add_argument(
        "--warmup-context", type=int, default=512, help="of an untimed prompt first"
    )
    parser.add_argument("--tokens", type=int, default=32, help="new tokens")
    parser.add_argument("--threads", type=int, required=True)
    o = parser.parse_args()

    # Kept in a variable: the C side holds no reference to it.
    callback = llama_cpp.llama_log_callback(log_errors)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    model = Model(o.model, max(o.context, o.warmup_context) + o.tokens, o.threads)
    measure(model, o.warmup_context, o.tokens)
    result = {
        **measure(model, o.context, o.tokens),
        "setting": {
            "llama_cpp_python": llama_cpp.__version__,
            "system_info": llama_cpp.llama_print_system_info().decode().strip(),
            "n_batch": BATCH,
            "n_ubatch": BATCH,
            "flash_attention": True,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
