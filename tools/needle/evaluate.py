"""Step 3: scores a model under each KV method on prompts with unseen essays (one GPU, or with patience a CPU).

usage: evaluate.py --data DIR --model MODEL_DIR --out scores.json
A score is the share of prompts whose answer greedy decoding would give: after the compressed prefill the gold answer
goes through as one causal chunk on the cache, and the prompt counts if every one of its tokens (end token excluded)
is the arg max. So an answer of several values counts only if all are right and in the order of the text. With --greedy the
score is RULER's: the share of values found in the greedily decoded text, in any order; slower. Every other prompt is chat (answer prefix inside the user turn), the others plain text.
"""

import argparse
import itertools
import json
import multiprocessing
import time

import numpy as np
import torch
from tokenizers import Tokenizer

from cache import Method
from checkpoint import load_hf
from haystack import Banks
from tasks import RULER_TASKS, Builder
from tokenizer import END_OF_TEXT, END_OF_TURN, FastEncoder

LENGTHS = (8192, 4096, 16384, 32640)  # prompt tokens, in order of importance
TASKS = (*RULER_TASKS, "vt")


def methods(c):
    """Name -> method; tspN is FastKV with N as the TSP layer."""
    out = {"full": Method(), "snapkv": Method("snapkv"), "streamingllm": Method("streamingllm")}
    out["fastkv"] = Method("fastkv", tsp_layer=c.tsp_layer)
    quarter = c.num_hidden_layers // 4
    out[f"fastkv_tsp{quarter}"] = Method("fastkv", tsp_layer=quarter)
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


@torch.no_grad()
def share_found(model, tok, prompts, answers, methods):
    """RULER's string_match_all of greedy decoding, summed over the prompts: (methods)"""
    device, total = model.norm.device, [0.0] * len(methods)
    ends = [tok.token_to_id(t) for t in (END_OF_TEXT, END_OF_TURN)]
    rows = max(1, 65536 // prompts.shape[1])
    for i in range(0, len(prompts), rows):
        out = model.greedy(
            torch.from_numpy(prompts[i : i + rows]).to(device), methods, answers.shape[1] + 8, ends
        ).tolist()
        for j, gold in enumerate(answers[i : i + rows].tolist()):
            values = tok.decode([t for t in gold if t >= 0]).replace(",", " ").split()
            for m in range(len(methods)):
                text = tok.decode(list(itertools.takewhile(lambda t: t not in ends, out[m][j])))
                total[m] += sum(v in text for v in values) / len(values)
    return total


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True, help="folder written by prepare.py")
    ap.add_argument("--model", required=True)
    ap.add_argument("--out", required=True, help="JSON file of scores, rewritten after every cell")
    ap.add_argument("--samples", type=int, default=100)
    ap.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    ap.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    ap.add_argument("--seed", type=int, default=2024)
    ap.add_argument(
        "--methods", nargs="+", help="some of full snapkv streamingllm fastkv fastkv_tsp3 (a quarter of the layers)"
    )
    ap.add_argument("--greedy", action="store_true", help="decode, and score as RULER does")
    ap.add_argument("--workers", type=int, default=8)
    ap.add_argument("--minutes", type=float, default=1e9, help="stop when they are over")
    args = ap.parse_args()
    cells = [(task, length) for length in args.lengths for task in args.tasks]
    pool = multiprocessing.get_context("fork").Pool(args.workers)
    jobs = [(args.data, f"{args.model}/tokenizer.json", t, n, args.samples, args.seed + n) for t, n in cells]
    made = pool.imap(make_cell, jobs)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_hf(args.model, torch.bfloat16 if device == "cuda" else torch.float32, device)
    tok = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    named = {name: m for name, m in methods(model.c).items() if name in (args.methods or methods(model.c))}
    start, scores = time.time(), {}
    print(f"{'cell':24}" + "".join(f"{m:>14}" for m in named), flush=True)
    for (task, length), cell in zip(cells, made):
        if time.time() - start > args.minutes * 60:
            break
        right = (
            share_found(model, tok, *cell, list(named.values()))
            if args.greedy
            else count_right(model, *cell, list(named.values()))
        )
        row = [round(100 * x / args.samples, 1) for x in right]
        scores[f"{task} {length}"] = dict(zip(named, row))
        print(
            f"{task + ' ' + str(length):24}" + "".join(f"{x:14.1f}" for x in row) + f"{time.time() - start:8.0f} s",
            flush=True,
        )
        with open(args.out, "w") as f:
            json.dump(
                {
                    "model": args.model,
                    "samples": args.samples,
                    "seed": args.seed,
                    "greedy": args.greedy,
                    "scores": scores,
                },
                f,
                indent=1,
            )
    pool.terminate()


if __name__ == "__main__":
    main()
