"""Step 2, on one GPU: trains the model; the schedule is a share of --minutes, so a run always ends in an annealed model.

usage: train.py --data DIR --out MODEL_DIR --minutes 21
DIR is the output of prepare.py. MODEL_DIR is rewritten at the end of every stage.

Losses, on answer tokens and with a small weight on a sample of all other tokens:
- at the last layer, and again at the TSP layer's output through a norm and the tied head (deep supervision), so that
  retrieval is done when FastKV prunes;
- "look": the last tokens of a question predict the tokens of the answer in any order from the TSP layer's output. The
  observation window of SnapKV and FastKV thereby looks at all that the answer will need;
- "hide": through a quarter of the depth, questions and answers attend to the needles asked for no more than to other text.
  otherwise so small a model finds them by rough matches in its first layers, and pruning early costs nothing;
- in the last stage also under compressed caches: the answer follows as one chunk on what SnapKV and FastKV kept.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import random
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import model as lm
from cache import Method
from checkpoint import load_hf, save_hf
from haystack import Banks
from muon import Muon
from tasks import LOOK, Builder
from tokenizer import BOS, CHAT_TEMPLATE, END_OF_TURN, FastEncoder

TOKENS = 131072  # per step, in every stage


@dataclasses.dataclass(frozen=True)
class Stage:
    """until: end of the stage as a share of the run. lengths: length -> weight. others: weight of tokens that answer nothing.
    compressed: share of one-question batches among those of 4K and more."""

    until: float
    lengths: dict
    others: float
    compressed: float = 0.0


STAGES = [
    Stage(0.17, {512: 1}, others=0.2),
    Stage(0.37, {2048: 0.9, 512: 0.1}, others=0.1),
    Stage(0.58, {8192: 0.85, 2048: 0.15}, others=0.05),
    Stage(0.76, {32768: 0.4, 16384: 0.25, 8192: 0.25, 2048: 0.1}, others=0.03),
    Stage(1.00, {32768: 0.25, 16384: 0.3, 8192: 0.3, 4096: 0.15}, others=0.02, compressed=0.42),
]
SCORED_SHARE = 1 / 8  # of all positions carry a loss: every answer and some others
MAX_LOOK = 64  # per sequence
WATCHED = 32  # queries of a sequence in the "hide" loss
MAX_NEEDLES = 4  # of one question
NEAR = 256  # distance up to which the "hide" loss does not care
HIDE_FROM = 2048  # tokens: in shorter sequences little is far
ORDINARY = 1.5  # deviations above the mean that some token of any thirty has
WARMUP_STEPS, DECAY_FROM = 100, 0.55


class Batches(torch.utils.data.IterableDataset):
    """Endless batches. `progress` (0..1, shared with the trainer) chooses the stage; lengths are drawn per batch."""

    def __init__(self, banks, encode, progress, seed, tokens, max_position):
        self.banks, self.encode, self.progress, self.seed = banks, encode, progress, seed
        self.tokens, self.max_position = tokens, max_position

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        seed = self.seed * 1000 + (info.id if info else 0)
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(seed)
        self.builder = Builder(self.banks, self.encode, seed)
        while True:
            stage = next(s for s in STAGES if self.progress.value < s.until or s is STAGES[-1])
            length = self.rng.choices(list(stage.lengths), list(stage.lengths.values()))[0]
            rows = max(1, self.tokens // length)
            if length >= 4096 and self.rng.random() < stage.compressed:
                yield self.one_question(length, rows)
            else:
                yield self.many_questions(length, rows, early=length <= 512) | {"others": stage.others}

    def many_questions(self, length, rows, early):
        """ids (B, L + 1), pos (B, L), scored positions at and whether they answer w (B, P), look positions, targets, weights (B, MAX_LOOK),
        positions to watch (B, WATCHED) and the spans of their needles (B, WATCHED, MAX_NEEDLES, 2), zeros where there are none"""
        out = [self.row(self.builder.random_sample(length, early), length) for _ in range(rows)]
        names = ("ids", "pos", "at", "w", "look_at", "look_to", "look_w", "watch", "needles")
        return {"length": length} | {n: torch.from_numpy(np.stack(x)) for n, x in zip(names, zip(*out))}

    def row(self, sample, length):
        rng, n = self.np_rng, len(sample.ids)
        ids = np.full(length + 1, sample.ids[-1], np.int32)
        ids[:n] = sample.ids
        target = np.concatenate([np.arange(a, b) for a, b in sample.answers])
        count = int(length * SCORED_SHARE)
        target = rng.permutation(target)[:count]
        others = np.setdiff1d(np.arange(1, n), target)
        others = rng.choice(others, count - len(target), replace=len(others) < count - len(target))
        at = np.concatenate([target, others]) - 1
        w = (np.arange(count) < len(target)).astype(np.float32)
        look_at, look_to, look_w = (
            np.zeros(MAX_LOOK, np.int64),
            np.zeros(MAX_LOOK, np.int64),
            np.zeros(MAX_LOOK, np.float32),
        )
        i = 0
        for (a, _), bag in zip(sample.answers, sample.bags):
            for back in range(1, LOOK + 1):
                if i < MAX_LOOK and bag:
                    look_at[i], look_to[i], look_w[i] = a - back, bag[rng.integers(len(bag))], 1.0
                    i += 1
        watch, needles = self.watched(sample, length)
        return ids, self.positions(length), at.astype(np.int64), w, look_at, look_to, look_w, watch, needles

    def watched(self, sample, length):
        """Random positions among answers and the observation windows before them, each with the spans of its needles."""
        at, needles = np.zeros(WATCHED, np.int64), np.zeros((WATCHED, MAX_NEEDLES, 2), np.int64)
        rows = [
            (i, spans)
            for (a, b), spans in zip(sample.answers, sample.needles)
            if spans
            for i in range(a - Method.window, min(b, length))
        ]
        reach = Method.kernel // 2  # the pooled scores of a needle are also those of the tokens around it
        for i, row in enumerate(self.np_rng.permutation(len(rows))[:WATCHED]):
            at[i], spans = rows[row]
            needles[i, : len(spans)] = np.add(spans, (-reach, reach))
        return at, needles

    def positions(self, length):
        """0 .. length - 1, in half of the sequences with up to three skips, so that short sequences see far positions."""
        rng, pos = self.np_rng, np.arange(length, dtype=np.int32)
        if length < self.max_position and rng.random() < 0.5:
            cuts = rng.integers(1, length, rng.integers(1, 4))
            for cut, to in zip(np.sort(cuts), np.sort(rng.integers(0, self.max_position - length + 1, len(cuts)))):
                pos[cut:] = np.arange(cut, length) + to
        return pos

    def one_question(self, length, rows):
        """prompt (B, L), answer (B, A) and its weights w (B, A)"""
        samples = [self.builder.random_question(length) for _ in range(rows)]
        room = max(8, length // 128)  # B * A is the same at every length
        answer, w = np.zeros((rows, room), np.int64), np.zeros((rows, room), np.float32)
        for i, s in enumerate(samples):
            ids = s.ids[length : length + room]
            answer[i, : len(ids)], w[i, : len(ids)] = ids, 1.0
        prompt = np.array([s.ids[:length] for s in samples], np.int64)
        return {
            "length": length,
            "prompt": torch.from_numpy(prompt),
            "answer": torch.from_numpy(answer),
            "w": torch.from_numpy(w),
        }


def pick(h, at):
    """h (B, N, C), at (B, P) -> (B * P, C)"""
    return h.gather(1, at[..., None].expand(-1, -1, h.shape[-1])).flatten(0, 1)


def hide_loss(watched, at, needles):
    """How far the highest logit of a needle's tokens stands out of those of far text, over all rows that have a needle.

    watched: per layer q (B, H, P, D) and k (B, K, N, D); at (B, P) positions of q; needles (B, P, S, 2) spans.
    """
    b, heads, p, d = watched[0][0].shape
    kv, n = watched[0][1].shape[1:3]
    j = torch.arange(n, device=at.device)
    far = (j >= Method.sinks) & (j < at[..., None] - NEAR)
    asked = ((j >= needles[..., :1]) & (j < needles[..., 1:])).any(2) & far
    rows, count, total = asked.any(-1), far.sum(-1).clamp(min=1), 0
    for q, k in watched:
        q = (q.float() / math.sqrt(d)).reshape(b, kv, -1, d)  # the queries of one group side by side
        k = k.to(torch.float32, memory_format=torch.contiguous_format)
        s = (q @ k.transpose(2, 3)).view(b, heads, p, n)
        usual = (s.detach() * far[:, None]).sum(-1) / count[:, None]
        spread = ((s.detach() - usual[..., None]).square() * far[:, None]).sum(-1) / count[:, None]
        best = s.masked_fill(~asked[:, None], float("-inf")).amax(-1)
        # In deviations: selection goes by rank. A row without a needle has -inf, thus adds 0.
        total = total + F.relu((best - usual) / (spread + 1e-3).sqrt() - ORDINARY).sum()
    return total / (rows.sum().clamp(min=1) * heads * len(watched))


def questions_loss(model, batch, others):
    ids, at = batch["ids"].long(), batch["at"]
    hide = batch["pos"].shape[1] >= HIDE_FROM
    early, final, watched = model(ids[:, :-1], batch["pos"], batch["watch"] if hide else None)
    target, w, look_w = ids.gather(1, at + 1).flatten(), batch["w"].flatten(), batch["look_w"].flatten()
    head, eps = model.embed_tokens, model.c.rms_norm_eps
    last, right = lm.scored_loss(pick(final, at), model.norm, head, target, eps)
    deep, _ = lm.scored_loss(pick(early, at), model.early_norm, head, target, eps)
    look_head = head @ model.look_proj
    look, _ = lm.token_loss(pick(early, batch["look_at"]), model.look_norm, look_head, batch["look_to"].flatten(), eps)
    weight = w / w.sum() + others * (1 - w) / (1 - w).sum()
    look = (look * look_w).sum() / look_w.sum().clamp(min=1)
    stats = {"text": (last * (1 - w)).sum() / (1 - w).sum(), "answer": (last * w).sum() / w.sum()}
    stats |= {"deep": (deep * w).sum() / w.sum(), "look": look, "acc": (right * w).sum() / w.sum()}
    loss = ((last + 0.5 * deep) * weight).sum() + 0.3 * look
    if hide:
        stats["hide"] = hide_loss(watched, batch["watch"], batch["needles"])
        loss = loss + 0.2 * stats["hide"]
    return loss, stats


def compressed_loss(model, batch, rng):
    """One prefill, three continuations of the answer: full cache, SnapKV, FastKV."""
    tsp, retain = model.c.tsp_layer, rng.choice((0.05, 0.1, 0.1, 0.2))
    methods = [
        Method(),
        Method("snapkv", retain=retain),
        Method("fastkv", retain=retain, tsp_layer=tsp, tsp_rate=205 / 1024),  # the same count of tokens at every length
    ]
    h = model.compressed(batch["prompt"], batch["answer"], methods)
    target = batch["answer"].expand(len(methods), -1, -1)
    loss, right = lm.token_loss(
        h.reshape(-1, h.shape[-1]), model.norm, model.embed_tokens, target.flatten(), model.c.rms_norm_eps
    )
    w = batch["w"].expand_as(target)
    loss, right = (
        (loss.view(w.shape) * w).sum((1, 2)) / w[0].sum(),
        ((right.view(w.shape) | (w == 0)).all(-1)).float().mean(-1),
    )
    stats = {
        "full": loss[0],
        "snap": loss[1],
        "fast": loss[2],
        "acc_full": right[0],
        "acc_snap": right[1],
        "acc_fast": right[2],
    }
    return loss.sum() * 0.5, stats


def fastest_attention(c, device):
    """Puts the fastest of PyTorch's fused attentions first, by forward and backward time at 32K tokens."""
    if device == "cpu":
        return
    times = {}
    x = [
        torch.randn(131072, h, c.head_dim, device=device, dtype=torch.bfloat16, requires_grad=True)
        for h in (c.num_attention_heads, c.num_key_value_heads, c.num_key_value_heads)
    ]
    for backend in (lm.SDPBackend.CUDNN_ATTENTION, lm.SDPBackend.FLASH_ATTENTION):
        lm.BACKENDS[0] = backend
        try:
            for _ in range(3):
                torch.cuda.synchronize()
                start = time.time()
                lm.causal_attention(*x, (4, 32768)).sum().backward()
                torch.cuda.synchronize()
                times[backend] = time.time() - start
        except RuntimeError as e:
            print(f"{backend}: {e}", flush=True)
            times.pop(backend, None)
    lm.BACKENDS[0] = min(times, key=times.get)
    print("attention at 32K:", {str(k): round(v, 4) for k, v in times.items()}, flush=True)


def export(model, data, out):
    os.makedirs(out, exist_ok=True)
    save_hf(model, out)
    shutil.copyfile(f"{data}/tokenizer.json", f"{out}/tokenizer.json")
    config = {
        "bos_token": BOS,
        "eos_token": END_OF_TURN,
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": model.c.max_position_embeddings,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    with open(f"{out}/tokenizer_config.json", "w") as f:
        f.write(json.dumps(config, indent=1) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True, help="folder written by prepare.py")
    ap.add_argument("--out", required=True, help="model folder")
    ap.add_argument("--minutes", type=float, default=21)
    ap.add_argument("--init", help="model folder to go on from")
    ap.add_argument("--start", type=float, default=0.0, help="share of the schedule to skip, with --init")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--workers", type=int, default=14)
    ap.add_argument("--tokens", type=int, default=TOKENS, help="per step")
    ap.add_argument("--muon-lr", type=float, default=0.015)
    ap.add_argument("--adam-lr", type=float, default=3e-3)
    args = ap.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    rng, begin = random.Random(args.seed), time.time()

    tok = Tokenizer.from_file(f"{args.data}/tokenizer.json")
    banks, progress = Banks(args.data), multiprocessing.Value("d", args.start)
    config = lm.Config()
    data = Batches(banks, FastEncoder(tok), progress, args.seed, args.tokens, config.max_position_embeddings)
    loader = iter(
        torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=args.workers, prefetch_factor=2 if args.workers else None,
            pin_memory=device == "cuda", multiprocessing_context="fork" if args.workers else None,
        )
    )  # fmt: skip
    first = next(loader)

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = load_hf(args.init, dtype, device) if args.init else lm.Model(config, dtype).to(device)
    print(f"parameters: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M", flush=True)
    fastest_attention(config, device)
    if device == "cuda":
        lm.compile_blocks()
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("layers")]
    rest = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("layers"))]
    muon, adam = (
        Muon(matrices),
        torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda"),
    )

    step, waited, tokens, stage, shown, start = 0, 0.0, 0, None, {}, time.time()
    seen = {}
    while True:
        share = args.start + (1 - args.start) * (time.time() - start) / (args.minutes * 60)
        progress.value = share
        now = next((i for i, s in enumerate(STAGES) if share < s.until), None)
        if stage is not None and now != stage:
            export(model, args.data, args.out)
            print(f"stage {stage} done: step {step}, {time.time() - begin:.0f} s", flush=True)
        if now is None:
            break
        stage = now
        since = time.time()
        batch, first = first or next(loader), None
        waited += time.time() - since
        length, others = batch.pop("length"), batch.pop("others", 0)
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        new_shape = (length, "prompt" in batch) not in seen
        seen[length, "prompt" in batch] = seen.get((length, "prompt" in batch), 0) + 1
        since = time.time()
        loss, stats = compressed_loss(model, batch, rng) if "prompt" in batch else questions_loss(model, batch, others)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        scale = min(1.0, (step + 1) / WARMUP_STEPS) * min(1.0, max(0.0, (1 - share) / (1 - DECAY_FROM)))
        muon.step(args.muon_lr * scale, decay=0.01)
        adam.param_groups[0]["lr"] = args.adam_lr * scale
        adam.step()
        for p in model.parameters():
            p.grad = None
        if device == "cuda" and step == 0:
            torch.cuda.synchronize()
        if new_shape:
            torch.cuda.synchronize() if device == "cuda" else None
            print(
                f"first batch {length} {'compressed' if 'prompt' in batch else ''}: {time.time() - since:.1f} s",
                flush=True,
            )
        if step == 0:  # compilation is not charged to the schedule
            start = time.time()
        step, tokens = step + 1, tokens + args.tokens
        shown.setdefault((length, "acc" in stats), []).append(stats)
        if step % 50 == 0:
            elapsed = time.time() - start
            text = "; ".join(
                f"{size}: " + " ".join(f"{k} {torch.stack([r[k] for r in rows]).mean().item():.3f}" for k in rows[0])
                for (size, _), rows in sorted(shown.items())
            )
            print(
                f"step {step} {elapsed:.0f} s, {tokens / elapsed / 1e6:.2f} M tok/s, wait {waited / elapsed:.0%}, lr x{scale:.2f} | {text}",
                flush=True,
            )
            shown = {}
    print(f"done: {step} steps, {tokens / 1e6:.0f} M tokens, {time.time() - begin:.0f} s, batches {seen}", flush=True)
    os._exit(0)  # the loader's workers are of no more use


if __name__ == "__main__":
    main()
