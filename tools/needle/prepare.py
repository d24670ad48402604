"""Step 1, on the CPU: trains the tokenizer and encodes all text once, so that training never calls the tokenizer.

usage: prepare.py --corpus corpus.json.gz --out DIR
The corpus is one JSON object: `docs` and `essays` (lists of texts; essays are for evaluation alone), `adj`, `noun` (lists of words).
Writes DIR/tokenizer.json, DIR/words.json and DIR/text.npz with flat token ids and line bounds of every bank of lines.
"""

import argparse
import collections
import gzip
import json
import os
import random
import re
import time

import numpy as np

import filler
from tokenizer import train_tokenizer

LINES_PER_KIND = 12000


def sentences(text):
    """Sentences of a text whose white space is collapsed; a plain rule, enough for placing needles between them."""
    return [s for s in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if len(s) > 2]


def encode_lines(tok, lines):
    """Token ids of each line in its two uses: (flat ids, bounds) of " line" and of "line\\n"."""
    out = []
    for form in (" {}", "{}\n"):
        ids = [e.ids for e in tok.encode_batch([form.format(x) for x in lines], add_special_tokens=False)]
        bounds = np.cumsum([0] + [len(x) for x in ids]).astype(np.int32)
        out.append((np.concatenate([np.array(x, np.uint16) for x in ids]), bounds))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    start = time.time()
    with gzip.open(args.corpus, "rt") as f:
        corpus = json.load(f)

    counts = collections.Counter(w.lower() for doc in corpus["docs"] for w in re.findall(r"[A-Za-z]{3,14}", doc))
    words = {"adj": corpus["adj"], "noun": corpus["noun"], "any": sorted(w for w, n in counts.items() if n >= 3)}
    rng = random.Random(0)
    lines = {kind: [make(rng, words) for _ in range(LINES_PER_KIND)] for kind, make in filler.KINDS.items()}
    tok = train_tokenizer(corpus["docs"] + [x for kind in lines.values() for x in kind[:1500]])
    tok.save(f"{args.out}/tokenizer.json")
    print(f"tokenizer: {tok.get_vocab_size()} tokens, {time.time() - start:.0f} s", flush=True)

    lines["prose"] = [s for doc in corpus["docs"] for s in sentences(doc)]
    lines["essays"] = [s for doc in corpus["essays"] for s in sentences(doc)]
    arrays = {}
    for name, bank in lines.items():
        for form, (ids, bounds) in zip(("space", "line"), encode_lines(tok, bank)):
            arrays[f"{name}.{form}.ids"], arrays[f"{name}.{form}.bounds"] = ids, bounds
        print(f"{name}: {len(bank)} lines, {len(ids)} tokens", flush=True)
    np.savez_compressed(f"{args.out}/text.npz", **arrays)
    with open(f"{args.out}/words.json", "w") as f:
        json.dump(words, f)
    print(f"done, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
