"""Step 4: prompts with the model's greedy answers under each KV method (float32, CPU), for the tests of an engine.

usage: golden.py --model MODEL_DIR --out MODEL_DIR/golden.jsonl
One JSON object per line: prompt, chat (the prompt is one user turn, or plain text), ids (the whole prompt's tokens),
answer (what is right), out: method -> options, ids (greedy, through the end token), text. All text is made here.
"""

import argparse
import json
import random
import time

import torch
from tokenizers import Tokenizer

import filler
from cache import Method
from checkpoint import load_hf
from tasks import FREE, RULER_HEAD, RULER_NEEDLE, RULER_PREFIX, RULER_QUESTION
from tokenizer import BOS, END_HEADER, END_OF_TEXT, END_OF_TURN, START_HEADER

WORDS = {
    "adj": "amber bitter crooked distant eager frozen gentle hollow ivory jolly lively mellow narrow orange polite quiet rusty silver "
    "tidy upper velvet wooden yellow young".split(),
    "noun": "anchor basket candle donkey engine feather garden hammer island jacket kettle ladder marble needle orchard pencil "
    "ribbon saddle thimble umbrella valley window wagon yard".split(),
}
WORDS["any"] = WORDS["adj"] + WORDS["noun"]


def aside(rng, words):
    """Sentences of a kind that the training data does not hold."""
    a, b, n = rng.choice(words["noun"]), rng.choice(words["noun"]), rng.randint(2, 90)
    return rng.choice(
        (
            f"Whoever borrowed the {a} from cabin {n} should return it before the tide turns.",
            f"Stir the {a} slowly, count to {n}, and only then add the {b}.",
            f"Chapter {n} explains how a {a} may be folded into a {b} without any glue.",
            f"Passengers for the {a} line change here; platform {n} is closed because of a {b}.",
            f"Dear diary, today I traded my {a} for {n} buttons and half a {b}.",
            f"On the left you see a {a}, on the right, some {n} steps away, the famous {b}.",
            f"Goal by the visitors in minute {n}, after a pass as soft as a {b}!",
            f"If the {a} does not start, press the {b} for {n} seconds and try again.",
        )
    )


# (filler kind, tokens, needle kind, wording: None is RULER's or an index into tasks.FREE, other needles)
PROMPTS = [
    ("story", 1100, "number", None, 0),
    ("aside", 1300, "number", None, 1),
    ("statement", 2000, "number", None, 3),
    ("table", 1500, "number", 0, 2),
    ("aside", 2600, "word", None, 2),
    ("log", 2400, "number", 4, 3),
    ("story", 3600, "number", None, 4),
    ("talk", 3000, "number", 2, 3),
    ("aside", 4200, "number", None, 3),
    ("code", 3200, "word", 4, 2),
    ("needles", 2800, "number", None, 0),
    ("aside", 5600, "number", None, 5),
]


NEW_TOKENS = 10


def make_prompt(rng, tok, kind, tokens, value, wording, others):
    """(prompt text, right answer)"""
    head, needle, question = (RULER_HEAD, RULER_NEEDLE, RULER_QUESTION) if wording is None else FREE[wording]
    prefix = RULER_PREFIX if wording is None else ""
    if wording is None:
        head = head.replace("{t}s", "{t}").replace("Some", "A").replace("are", "is")
        question, prefix = (
            x.replace("{t}s", "{t}").replace("are all", "is").replace("are", "is") for x in (question, prefix)
        )

    def fact():
        k = f"{rng.choice(WORDS['adj'])}-{rng.choice(WORDS['noun'])}"
        v = (
            str(rng.randrange(10**6, 10**7))
            if value == "number"
            else f"{rng.choice(WORDS['adj'])}-{rng.choice(WORDS['noun'])}"
        )
        return k, v, needle.format(t=value, k=k, v=v)

    make = {"aside": aside, "needles": lambda rng, words: fact()[2]} | filler.KINDS
    glue = "\n" if kind in ("table", "log", "code", "talk", "needles") else " "
    key, answer, said = fact()
    facts = [said] + [f for k, _, f in (fact() for _ in range(others)) if k != key]
    lines, size = [], 0
    while size < tokens:
        lines.append(make[kind](rng, WORDS))
        if f" {key} " in lines[-1]:
            lines.pop()
            continue
        size += len(tok.encode(lines[-1] + glue, add_special_tokens=False).ids)
    for f in facts:
        lines.insert(rng.randint(len(lines) // 20, len(lines) * 9 // 10), f)
    form = {"t": value, "k": key}
    return head.format(**form) + glue.join(lines) + "\n" + question.format(**form) + prefix.format(**form), answer


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=7)
    args = ap.parse_args()
    model = load_hf(args.model, torch.float32, "cpu")
    tok, rng = Tokenizer.from_file(f"{args.model}/tokenizer.json"), random.Random(args.seed)
    tsp = model.c.tsp_layer
    named = {
        "full": {},
        "fastkv": {"tsp_layer": tsp, "tsp_rate": 0.2, "retain": 0.1},
        "fastkv_20": {"tsp_layer": tsp, "tsp_rate": 0.3, "retain": 0.2},
        "snapkv": {"retain": 0.1},
        "streamingllm": {"retain": 0.1},
    }
    methods = [Method(kind=name.split("_")[0], **options) for name, options in named.items()]
    ends = {tok.token_to_id(END_OF_TEXT), tok.token_to_id(END_OF_TURN)}
    right = dict.fromkeys(named, 0)
    with open(args.out, "w") as f:
        for i, spec in enumerate(PROMPTS):
            start, chat = time.time(), i % 2 == 1 or spec[3] is not None
            prompt, answer = make_prompt(rng, tok, *spec)
            text = (
                f"{BOS}{START_HEADER}user{END_HEADER}\n\n{prompt}{END_OF_TURN}{START_HEADER}assistant{END_HEADER}\n\n"
                if chat
                else BOS + prompt
            )
            ids = tok.encode(text, add_special_tokens=False).ids
            out = model.greedy(torch.tensor([ids]), methods, NEW_TOKENS, ends)[:, 0].tolist()
            out = [row[: next((j + 1 for j, t in enumerate(row) if t in ends), len(row))] for row in out]
            record = {"prompt": prompt, "chat": chat, "ids": ids, "answer": answer, "out": {}}
            for (name, options), got in zip(named.items(), out):
                record["out"][name] = {"options": options, "ids": got, "text": tok.decode(got)}
                right[name] += answer in record["out"][name]["text"]
            f.write(json.dumps(record) + "\n")
            f.flush()
            said = {name: o["text"] for name, o in record["out"].items()}
            print(f"{i} {spec} {len(ids)} tokens, {time.time() - start:.0f} s: {answer} {said}", flush=True)
    print(f"right of {len(PROMPTS)}: {right}")


if __name__ == "__main__":
    main()
