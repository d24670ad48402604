"""Prompts with answers, as token ids: the tasks the model is trained and measured on.

A task builds a `Sample`: a prompt, then one or more questions, each with its answer. Training uses many questions in
one sequence; the compression stage and the evaluation use one question, so that the prompt ends in it.
The wording of niah, vt, cwe and fwe is RULER's (https://github.com/NVIDIA/RULER, Apache-2.0).
"""

import dataclasses
import random
import uuid

import numpy as np

from haystack import Haystack
from tokenizer import BOS, END_HEADER, END_OF_TEXT, END_OF_TURN, START_HEADER

LOOK = 5  # the last tokens of a question that learn to look the whole answer up

# Where the question's answer prefix stands: after the question (base), after it inside the user turn (chat_user), at the
# start of the assistant's turn (chat_assistant), or nowhere (chat_plain).
FORMS = ("base", "chat_user", "chat_assistant", "chat_plain")

RULER_HEAD = "Some special magic {t}s are hidden within the following text. Make sure to memorize it. I will quiz you about the {t}s afterwards.\n"
RULER_NEEDLE = "One of the special magic {t}s for {k} is: {v}."
RULER_QUESTION = "What are all the special magic {t}s for {k} mentioned in the provided text?"
RULER_PREFIX = " The special magic {t}s for {k} mentioned in the provided text are"

# Wordings beyond RULER's: (head, needle, question).
FREE = [
    ("", "The {t} of {k} is {v}.", "What is the {t} of {k}?"),
    ("", "The {t} for {k} is {v}.", "What is the {t} for {k}? Answer with the {t} only."),
    (
        "Read the text and answer the question at its end.\n",
        "Remember that the {t} for {k} is {v}.",
        "Which {t} was given for {k}?",
    ),
    ("The text below mentions a few {t}s.\n", "By the way, {k} has the {t} {v}.", "Tell me the {t} that {k} has."),
    ("", "The secret {t} for {k} is: {v}.", "According to the text, what is the secret {t} for {k}?"),
    ("", "The special magic {t} for {k} is: {v}.", "What is the special magic {t} for {k}?"),
    ("", RULER_NEEDLE, "What is the special magic {t} for {k}?"),
    ("", "{k} = {v}", "What is the value of {k}?"),
    ("", "{k}: {v}", "What does the text say after {k}?"),
    ("Here is some data.\n", "{k} -> {v}", "Where does {k} point to?"),
    ("", "To reach {k}, use {v}.", "What should I use to reach {k}?"),
    ("", "Please note: {v} is the {t} of {k}.", "What is the {t} of {k}?"),
    ("", "A visitor told us that {v} belongs to {k}.", "What belongs to {k}?"),
    ("", "Somebody wrote the {t} {v} next to {k}.", "Which {t} was written next to {k}?"),
    (
        "I will ask you about the following text.\n",
        "Do not forget {k}: the {t} is {v}.",
        "What was the {t} of {k} again?",
    ),
]
NAMES = {
    "number": (
        "number",
        "code",
        "price",
        "score",
        "room",
        "phone number",
        "key",
        "year",
        "weight",
        "magic number",
        "pin",
    ),
    "word": ("name", "word", "password", "nickname", "colour", "key", "answer", "secret", "label"),
    "uuid": ("uuid", "id", "token", "key", "reference", "hash"),
}


@dataclasses.dataclass(frozen=True)
class Niah:
    """One kind of needle question. hay: noise, needle, prose, or any (filler of every kind)."""

    hay: str
    key: str = "word"  # word, uuid, other
    value: str = "number"  # number, word, uuid
    keys: int = 1
    values: int = 1  # per key
    queries: int = 1  # keys per question
    wording: tuple = None  # None: RULER's
    plain: bool = True  # RULER's own keys and values only
    alike: float = 0.0  # share of the keys of words that have a word of another key


RULER_TASKS = {
    "niah_single_1": Niah("noise"),
    "niah_single_2": Niah("prose"),
    "niah_single_3": Niah("prose", value="uuid"),
    "niah_multikey_1": Niah("prose", keys=4),
    "niah_multikey_2": Niah("needle"),
    "niah_multikey_3": Niah("needle", key="uuid", value="uuid"),
    "niah_multivalue": Niah("prose", values=4),
    "niah_multiquery": Niah("prose", keys=4, queries=4),
}


@dataclasses.dataclass
class Turn:
    question: str
    prefix: str  # starts with a space, or empty
    answer: str  # without the leading space
    bag: str = None  # what the question's last tokens look up; None: the answer
    keys: tuple = ()  # of the needles it asks for


class Sample:
    """Token ids with the spans of answers. `bags` holds, per answer, the tokens its question should look up; `needles` the
    spans of the needles it asks for."""

    def __init__(self):
        self.ids, self.answers, self.bags, self.needles = [], [], [], []

    def add(self, ids):
        self.ids.extend(ids)

    def add_answer(self, ids, bag):
        self.answers.append((len(self.ids), len(self.ids) + len(ids)))
        self.bags.append(bag)
        self.needles.append([])
        self.ids.extend(ids)


class Builder:
    def __init__(self, banks, encode, seed):
        self.banks, self.enc, self.rng = banks, encode, random.Random(seed)
        self.sp = encode.special
        self.haystack = Haystack(banks, encode, self.rng)

    # ---- keys and values ----------------------------------------------------------------------------------------

    def word(self, plain=True):
        rng, words = self.rng, self.banks.words
        if plain and rng.random() < 0.7:
            return rng.choice(words["adj"]) + "-" + rng.choice(words["noun"])
        u = rng.random()
        if plain or u < 0.5:
            return rng.choice(words["any"]) + "-" + rng.choice(words["any"])
        if u < 0.65:
            return rng.choice(words["any"])
        if u < 0.8:
            return rng.choice(words["any"]).capitalize() + " " + rng.choice(words["any"]).capitalize()
        syllables = ("ba ko ri tu mes lan dor vi ny sha qu ex ol ta pre gri zu fen mi ra jo we").split()
        return "".join(rng.choice(syllables) for _ in range(rng.randint(2, 4)))

    def uuid(self):
        return str(uuid.UUID(int=self.rng.getrandbits(128)))

    def key(self, kind):
        if kind == "uuid":
            return self.uuid()
        if kind == "other" and self.rng.random() < 0.25:
            return str(self.rng.randrange(10, 10 ** self.rng.randint(2, 6)))
        return self.word(plain=kind == "word")

    def value(self, kind, plain):
        rng = self.rng
        if kind == "uuid":
            return self.uuid()
        if kind == "word":
            return self.word(plain)
        if plain or rng.random() < 0.5:
            return str(rng.randrange(10**6, 10**7))
        if rng.random() < 0.8:
            return str(rng.randrange(10 ** rng.randint(1, 9)))
        return f"{rng.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}{rng.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}-{rng.randrange(10000)}"

    # ---- putting prompts together -------------------------------------------------------------------------------

    def _header(self, role):
        return [self.sp[START_HEADER], *self.enc(role), self.sp[END_HEADER], *self.enc("\n\n")]

    def _front(self, form, head):
        ids = [self.sp[BOS]] * (2 if self.rng.random() < 0.1 else 1)
        return ids + (self._header("user") if form != "base" else []) + self.enc(head)

    def _turn(self, sample, form, turn, lead):
        """Appends question and answer. lead: a line end is still due before the first question; None: a later question."""
        later, nl = lead is None, "\n" if lead else ""
        prefix = turn.prefix
        if form == "base":
            sample.add(self.enc(("\n" if later else nl) + turn.question + prefix))
            answer, end = " " + turn.answer, END_OF_TEXT
        else:
            asked = turn.question + (prefix.rstrip() if form == "chat_user" else "")
            sample.add(
                (self._header("user") if later else [])
                + self.enc(nl + asked)
                + [self.sp[END_OF_TURN]]
                + self._header("assistant")
            )
            inside = form == "chat_assistant" and prefix
            if inside:
                sample.add(self.enc(prefix))
            answer, end = (" " if inside else "") + turn.answer, END_OF_TURN
        drop = set(self.enc(" ,"))
        bag = [t for t in self.enc(" " + (turn.bag or turn.answer)) if t not in drop]
        sample.add_answer([*self.enc(answer), self.sp[end]], bag)

    def _compose(self, form, head, turns, lead, length, single, body):
        """front + body(room) + turns: length + 1 tokens in all, or, if single, `length` tokens before the answer.
        body(room) -> token ids, and by key the spans of the needles among them"""
        front, tail = self._front(form, head), Sample()
        for i, turn in enumerate(turns):
            self._turn(tail, form, turn, lead if i == 0 else None)
        room = length - len(front) - (tail.answers[0][0] if single else len(tail.ids) - 1)
        if room < 0:
            return None
        sample, (ids, placed) = Sample(), body(room)
        sample.ids = front + list(ids)
        at, first = len(sample.ids), len(front)
        sample.ids += tail.ids
        sample.answers, sample.bags = [(a + at, b + at) for a, b in tail.answers], tail.bags
        sample.needles = [[(a + first, b + first) for k in t.keys for a, b in placed.get(k, ())] for t in turns]
        return sample

    # ---- tasks --------------------------------------------------------------------------------------------------

    def niah(self, spec, form, length, turns=1, single=False):
        """Needles in a haystack; `turns` questions, about different keys where there are enough."""
        rng = self.rng
        only, lines = (
            spec.hay == "needle",
            spec.hay in ("needle", "noise") or (spec.hay == "any" and rng.random() < 0.35),
        )
        many = spec.values * spec.queries > 1
        head, needle, question = spec.wording or (RULER_HEAD, RULER_NEEDLE, RULER_QUESTION)
        name = spec.value if spec.wording is None else rng.choice(NAMES[spec.value])
        prefix = RULER_PREFIX if spec.wording is None else ""
        if spec.wording is None and not many:  # RULER's singular
            head = head.replace("{t}s", "{t}").replace("Some", "A").replace("are", "is")
            question, prefix = (
                x.replace("{t}s", "{t}").replace("are all", "is").replace("are", "is") for x in (question, prefix)
            )

        seen = {}  # in order: a set's would depend on the process

        def one_key():
            k = self.key(spec.key)
            if seen and spec.alike and spec.key == "word" and rng.random() < spec.alike:
                pair, other = k.split("-"), rng.choice(list(seen)[:100]).split("-")
                i = rng.randrange(2)
                pair[i] = other[i]
                k = "-".join(pair)
            return k

        def fresh():
            k = one_key()
            while k in seen:
                k = one_key()
            seen[k] = True
            return k, [self.value(spec.value, spec.plain) for _ in range(spec.values)]

        def encoded(k, v):
            text = needle.format(t=name, k=k, v=v)
            return self.enc(text + "\n" if lines else " " + text)

        asked = [[fresh() for _ in range(spec.queries)] for _ in range(turns)]
        while True:
            said = []
            for group in asked:
                ks = [k for k, _ in group]
                joined = ks[0] if len(ks) == 1 else ", ".join(ks[:-1]) + ", and " + ks[-1]
                answer = ", ".join(v for _, vs in group for v in vs)
                said.append(
                    Turn(question.format(t=name, k=joined), prefix.format(t=name, k=joined), answer, keys=tuple(ks))
                )
            needles = [(k, encoded(k, v)) for group in asked for k, vs in group for v in vs]
            used = sum(len(n) for _, n in needles)

            def body(room):
                extra, have = [], used
                while (
                    only
                    and have < room
                    or not only
                    and len(asked) * spec.queries + len(extra) // spec.values < spec.keys
                    and have < room * 0.6
                ):
                    k, vs = fresh()
                    extra += [(k, encoded(k, v)) for v in vs]
                    have += sum(len(n) for _, n in extra[-len(vs) :])
                while extra and have > room:
                    have -= len(extra.pop()[1])
                return self._scatter(needles + extra, room - have, spec.hay, lines)

            if sum(len(x.answer) + 2 * len(x.question) for x in said) / 2 + used < 0.8 * length or len(asked) == 1:
                sample = self._compose(
                    form,
                    head.format(t=name),
                    said,
                    not lines,
                    length,
                    single,
                    lambda room: body(room) if room >= used else ([], {}),
                )
                if (
                    sample is not None
                    and (not single or len(sample.ids) > length)
                    and self._complete(sample, length, single)
                ):
                    return sample
            if len(asked) == 1:
                return None
            asked.pop()

    def _complete(self, sample, length, single):
        return sample.answers[0][0] == length if single else len(sample.ids) == length + 1

    def _scatter(self, needles, room, hay, lines):
        """Needles in random order (values of one key in their own order) between `room` tokens of filler: ids, key -> spans"""
        order = [k for k, _ in needles]
        self.rng.shuffle(order)
        queue = {}
        for k, ids in needles:
            queue.setdefault(k, []).append(ids)
        needles = [(k, queue[k].pop(0)) for k in order]
        fill, cuts = self.haystack.fill(room, "line" if lines else "space", "any" if hay == "needle" else hay)
        # Of needles alone: whatever they leave over stands in front.
        at = [len(fill)] * len(needles) if hay == "needle" else sorted(self.rng.choice(cuts) for _ in needles)
        parts, spans, last, size = [], {}, 0, 0
        for a, (k, ids) in zip(at, needles):
            parts += [fill[last:a], ids]
            start, size = a + size, size + len(ids)
            spans.setdefault(k, []).append((start, start + len(ids)))
            last = a
        return np.concatenate([*parts, fill[last:]]), spans

    def _chains(self, n, hops, letters, value):
        """n chains of variables: (value, names, statements)"""
        seen, out = set(), []
        for _ in range(n):
            names = []
            while len(names) < hops + 1:
                x = "".join(self.rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(letters))
                if x not in seen:
                    seen.add(x)
                    names.append(x)
            v = str(value or self.rng.randrange(10000, 99999))
            out.append(
                (v, names, [f"VAR {names[0]} = {v}\n"] + [f"VAR {b} = VAR {a} \n" for a, b in zip(names, names[1:])])
            )
        return out

    def _vt_body(self, chains, room, kind):
        said = [[self.enc(s) for s in c[2]] for c in chains]
        fill, cuts = self.haystack.fill(room - sum(len(s) for c in said for s in c), "line", kind)
        placed = [(a, s) for c in said for a, s in zip(sorted(self.rng.choice(cuts) for _ in c), c)]
        parts, last = [], 0
        for a, s in sorted(placed, key=lambda x: x[0]):
            parts += [fill[last:a], s]
            last = a
        return np.concatenate([*parts, fill[last:]])

    def vt(self, form, length, single=False, ruler=False):
        """Variable tracking, with RULER's worked example in front in half of the samples (ruler: in all, one chain, noise)."""
        rng = self.rng
        n, hops = (1, 4) if ruler else (rng.choice((1, 1, 1, 2, 3)), rng.randint(1, 5))
        head = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
        question = "Question: Find all variables that are assigned the value {v} in the text above."
        prefix = " Answer: According to the chain(s) of variable assignment in the text above, {n} variables are assigned the value {v}, they are: "
        chains = self._chains(n, hops, 5 if ruler else rng.choice((3, 4, 5, 5, 5)), None)
        kind = "noise" if ruler or rng.random() < 0.6 else "any"
        example = []
        if ruler or (length > 1000 and rng.random() < 0.5):
            ((v, names, _),) = shown = self._chains(1, hops, 3, None)
            text = question.format(v=v) + prefix.format(n=len(names), v=v) + " " + " ".join(names) + "\n\n"
            example = self.enc(head) + list(self._vt_body(shown, 330, "noise")) + self.enc(text)
        turns = [
            Turn(question.format(v=v), prefix.format(n=len(xs), v=v), " ".join(xs))
            for v, xs, _ in rng.sample(chains, rng.randint(1, n))
        ]
        if form == "chat_plain":
            turns = [dataclasses.replace(t, prefix="") for t in turns]
        used = sum(len(self.enc(s)) for c in chains for s in c[2])
        start = [] if not example else example

        def body(room):
            room -= len(start) + len(middle)
            return (start + middle + list(self._vt_body(chains, room, kind)) if room >= used + 20 else []), {}

        middle = self.enc(head) if example else []
        turns = turns[:1] if single else turns
        sample = self._compose(form, "" if example else head, turns, False, length, single, body)
        return sample if sample is not None and self._complete(sample, length, single) else None

    def cwe(self, form, length):
        """The ten most common words of a numbered list, named in the order of their first appearance."""
        rng = self.rng
        common, rare = (30, 3) if length >= 4096 else (rng.choice((6, 10)), rng.choice((1, 2)))
        entries = (length - 120) // 6
        top = min(10, max(2, entries // (common * 2)))
        words = rng.sample(self.banks.words["any"], max(top + 2, top + (entries - top * common) // rare))
        listed = words[:top] * common + words[top:] * rare
        rng.shuffle(listed)
        text, size = [], 0
        for i, w in enumerate(listed):
            ids = self.enc(f"{' ' if i else ''}{i + 1}. {w}")
            size += len(ids)
            if size > length - 130 - 6 * top:
                break
            text.append(ids)
        order = [w for w in dict.fromkeys(listed[: len(text)]) if w in set(words[:top])]
        head = "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n"
        turn = Turn(
            f"Question: What are the {top} most common words in the above list?",
            f" Answer: The top {top} words that appear most often in the list are:",
            " ".join(f"{i + 1}. {w}" for i, w in enumerate(order)),
            " ".join(order),
        )
        if form == "chat_plain":
            turn.prefix = ""
        return self._compose(form, head, [turn], True, length, False, lambda room: ([t for x in text for t in x], {}))

    def fwe(self, form, length):
        """The three most frequent words of a coded text (the most frequent of all, the dots, does not count)."""
        rng = self.rng
        vocabulary = [
            "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6)) for _ in range(max(6, length // 50))
        ]
        total = length // rng.choice((3, 4))
        text = []
        for rank, w in enumerate(["..."] + vocabulary, 1):
            text += [w] * max(int(total * rank**-2.0 / 1.6449), 1 if rank < 5 else 0)
        rng.shuffle(text)
        ids, limit = [], length - 140
        for w in text:
            ids += self.enc(" " + w)
            if len(ids) > limit:
                break
        head = "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words."
        turn = Turn(
            "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?",
            " Answer: According to the coded text above, the three most frequently appeared words are:",
            " ".join(vocabulary[:3]),
        )
        if form == "chat_plain":
            turn.prefix = ""
        return self._compose(form, head, [turn], True, length, False, lambda room: (ids[:room], {}))

    def copy(self, length):
        """Text in which earlier spans come back: the quickest way to learn to look back."""
        rng, sample = self.rng, Sample()
        sample.add([self.sp[BOS]])
        spans = rng.randint(1, 4)
        size = min(160, length // (4 * spans))
        room = length - spans * size
        if rng.random() < 0.5:
            text = self.haystack.fill(room, "space")[0].tolist()
        else:
            text = [rng.randrange(self.sp[BOS]) for _ in range(room)]
        sample.add(text)
        for _ in range(spans):
            a = rng.randrange(room - size)
            sample.add(text[a : a + 4])
            sample.add_answer(text[a + 4 : a + size], text[a + 4 : a + 7])
        return sample

    # ---- mixtures -----------------------------------------------------------------------------------------------

    def random_niah(self, form, length, single=False):
        rng = self.rng
        free = form == "chat_plain" and rng.random() < 0.75
        value = rng.choices(("number", "word", "uuid"), (0.44, 0.14, 0.42))[0]
        key = (
            "uuid"
            if value == "uuid" and rng.random() < 0.5
            else "uuid"
            if rng.random() < 0.04
            else "other"
            if free
            else "word"
        )
        hay = rng.choices(("needle", "any", "noise"), (0.32, 0.58, 0.1))[0]
        values = rng.choices((1, 2, 3, 4), (0.45, 0.05, 0.05, 0.45))[0] if hay != "needle" or rng.random() < 0.1 else 1
        queries = rng.choices((1, 2, 3, 4), (0.66, 0.06, 0.04, 0.24))[0] if not free and values == 1 else 1
        turns = 1 if single else rng.randint(1, 5 if length <= 600 else 10)
        most = max(1, (length - 200) // (100 * values))
        keys = min(most, rng.choice((1, 1, 2, 4, 4, 8, 16, 40)))
        wording = rng.choice(FREE) if free else None
        spec = Niah(hay, key, value, keys, values, queries, wording, plain=not free, alike=0.2)
        return self.niah(spec, form, length, turns, single)

    def random_sample(self, length, early=False):
        """One training sequence of length + 1 tokens at most; early: more copying."""
        while True:
            u, form = self.rng.random(), self.rng.choices(FORMS, (0.3, 0.3, 0.12, 0.28))[0]
            if u < (0.12 if early else 0.02):
                sample = self.copy(length)
            elif u < 0.8:
                sample = self.random_niah(form, length)
            elif u < 0.92:
                sample = self.vt(form, length)
            elif u < 0.97:
                sample = self.cwe(form, length)
            else:
                sample = self.fwe(form, length)
            if sample is not None:
                return sample

    def random_question(self, length):
        """One prompt of exactly `length` tokens with its answer."""
        while True:
            form = self.rng.choices(FORMS, (0.3, 0.3, 0.12, 0.28))[0]
            sample = (
                self.vt(form, length, single=True)
                if self.rng.random() < 0.16
                else self.random_niah(form, length, single=True)
            )
            if sample is not None:
                return sample

    def ruler_question(self, task, length, form):
        """One evaluation prompt in RULER's wording: exactly `length` tokens, then the answer."""
        while True:
            sample = (
                self.vt(form, length, single=True, ruler=True)
                if task == "vt"
                else self.niah(RULER_TASKS[task], form, length, single=True)
            )
            if sample is not None:
                return sample
