"""Step 3: scores a model under each KV method on prompts with unseen essays (one GPU, or with patience a CPU).

usage: evaluate.py --data DIR --model MODEL_DIR --out scores.json
A score is the share of prompts whose answer greedy decoding would give: after the compressed prefill the gold answer
goes through as one causal chunk on the cache, and the prompt counts if every one of its tokens (end token excluded)
is the arg max. That equals greedy decoding of a string which admits one order of the values, and is strict where RULER
gives marks for parts. Every other prompt is chat (answer prefix inside the user turn), the others plain text.
"""

import argparse
import json
import multiprocessing
import time

import numpy as np
import torch
from tokenizers import Tokenizer

import model as lm
from tasks import RULER_TASKS, Banks, Builder
from tokenizer import FastEncoder

LENGTHS = (8192, 4096, 16384, 32640)  # prompt tokens, in order of importance
TASKS = (*RULER_TASKS, "vt")


def methods(c):
    """Name -> method; tspN is FastKV with N as the TSP layer."""
    out = {"full": lm.Method(), "snapkv": lm.Method("snapkv"), "streamingllm": lm.Method("streamingllm")}
    out["fastkv"] = lm.Method("fastkv", tsp_layer=c.tsp_layer)
    quarter = c.num_hidden_layers // 4
    out[f"fastkv_tsp{quarter}"] = lm.Method("fastkv", tsp_layer=quarter)
    return out


def make_cell(job):
    """Prompts (samples, length) and answers (samples, A) of one cell; -1 fills short answers."""
    data, tokenizer, task, length, samples, seed = job
    builder = Builder(Banks(data, prose="essays"), FastEncoder(Tokenizer.from_file(tokenizer)), seed)
    made = [builder.ruler_question(task, length, ("base", "chat_user")[i % 2]) for i in range(samples)]
    answers = [s.ids[length : s.answers[0][1] - 1] for s in made]
    widest = max(map(len, answers))
    return np.array([s.ids[:length] for s in made]), np.array([a + [-1] * (widest - len(a)) for a in answers])


@torch.no_grad()
def count_right(model, prompts, answers, methods):
    """How many whole answers are the arg max under each method: (methods)"""
    device, total = model.norm.device, 0
    rows = max(1, 65536 // prompts.shape[1])
    for i in range(0, len(prompts), rows):
        prompt, answer = (torch.from_numpy(x[i : i + rows]).to(device) for x in (prompts, answers))
        h = model.compressed(prompt, answer.clamp(min=0), methods)
        total = total + ((model.logits(h).argmax(-1) == answer) | (answer < 0)).all(-1).sum(-1)
    return total.tolist()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True, help="folder written by prepare.py")
    ap.add_argument("--model", required=True)
    ap.add_argument("--out", required=True, help="JSON file of scores, rewritten after every cell")
    ap.add_argument("--samples", type=int, default=100)
    ap.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    ap.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    ap.add_argument("--seed", type=int, default=2024)
    ap.add_argument("--workers", type=int, default=8)
    ap.add_argument("--minutes", type=float, default=1e9, help="stop when they are over")
    args = ap.parse_args()
    cells = [(task, length) for length in args.lengths for task in args.tasks]
    pool = multiprocessing.get_context("fork").Pool(args.workers)
    jobs = [(args.data, f"{args.model}/tokenizer.json", t, n, args.samples, args.seed + n) for t, n in cells]
    made = pool.imap(make_cell, jobs)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = lm.load_hf(args.model, torch.bfloat16 if device == "cuda" else torch.float32, device)
    named, start, scores = methods(model.c), time.time(), {}
    print(f"{'cell':24}" + "".join(f"{m:>14}" for m in named), flush=True)
    for (task, length), cell in zip(cells, made):
        if time.time() - start > args.minutes * 60:
            break
        right = count_right(model, *cell, list(named.values()))
        row = [round(100 * x / args.samples, 1) for x in right]
        scores[f"{task} {length}"] = dict(zip(named, row))
        print(f"{task + ' ' + str(length):24}" + "".join(f"{x:14.1f}" for x in row) + f"{time.time() - start:8.0f} s", flush=True)
        with open(args.out, "w") as f:
            json.dump({"model": args.model, "samples": args.samples, "seed": args.seed, "scores": scores}, f, indent=1)
    pool.terminate()


if __name__ == "__main__":
    main()
