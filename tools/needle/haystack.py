"""Filler text as token ids: the banks of lines that prepare.py made, and ways to fill a haystack with them.

Text comes in two forms: "space" (" line line") and "line" ("line\nline\n").
"""

import json

import numpy as np

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


class Banks:
    """All text as flat arrays of token ids with line bounds (see prepare.py). `prose` names the bank of running text."""

    def __init__(self, folder, prose="prose"):
        data = np.load(f"{folder}/text.npz")
        names = sorted({key.split(".")[0] for key in data.files})
        self.lines = {
            name: {form: (data[f"{name}.{form}.ids"], data[f"{name}.{form}.bounds"]) for form in ("space", "line")}
            for name in names
            if name not in ("prose", "essays")
        }
        self.prose = {form: (data[f"{prose}.{form}.ids"], data[f"{prose}.{form}.bounds"]) for form in ("space", "line")}
        with open(f"{folder}/words.json") as f:
            self.words = json.load(f)


class Haystack:
    def __init__(self, banks, encode, rng):
        self.banks, self.rng = banks, rng
        self.noise = {
            form: np.array(encode(text), np.uint16) for form, text in (("space", " " + NOISE), ("line", NOISE + "\n"))
        }

    def _running(self, bank, form, n):
        """n consecutive tokens; whole lines except the first ("line") or the last ("space"). Returns ids, line starts."""
        ids, bounds = bank[form]
        if form == "space":
            i = self.rng.randrange(np.searchsorted(bounds, max(1, len(ids) - n)))
            a = bounds[i]
        else:
            i = np.searchsorted(bounds, min(n, len(ids) - 1))
            a = max(0, bounds[self.rng.randrange(i, len(bounds))] - n)
        part = ids[a : a + n]
        lo, hi = np.searchsorted(bounds, a), np.searchsorted(bounds, a + len(part))
        cuts = bounds[lo:hi] - a
        if len(part) < n:  # more than the bank holds: start again
            more, more_cuts = self._running(bank, form, n - len(part))
            part, cuts = np.concatenate([part, more]), np.concatenate([cuts, more_cuts + len(part)])
        return part, cuts

    def _drawn(self, bank, form, n, distinct=None):
        """n tokens of randomly drawn lines, from at most `distinct` different ones."""
        ids, bounds = bank[form]
        pool = (
            range(len(bounds) - 1)
            if distinct is None
            else [self.rng.randrange(len(bounds) - 1) for _ in range(distinct)]
        )
        parts, cuts, have = [], [], 0
        while have < n:
            i = self.rng.choice(pool)
            parts.append(ids[bounds[i] : bounds[i + 1]])
            cuts.append(have)
            have += len(parts[-1])
        flat, cuts = np.concatenate(parts), np.array(cuts)
        if form == "space":
            return flat[:n], cuts
        cuts = cuts - (have - n)
        return flat[have - n :], cuts[cuts >= 0]

    def _repeated(self, line, n, form):
        flat = np.tile(line, -(-n // len(line)))
        skip = len(flat) - n if form == "line" else 0
        return flat[skip : skip + n], np.arange(-skip % len(line), n, len(line))

    def fill(self, n, form, kind="any"):
        """(n token ids, offsets at which a needle may stand: starts of lines, and the end of the last whole one)"""
        if n <= 0:
            return np.zeros(0, np.uint16), np.zeros(1, np.int64)
        ids, cuts = self._fill(n, form, kind)
        return (ids, np.append(cuts, n)) if form == "line" else (ids, cuts)

    def _fill(self, n, form, kind):
        if kind == "noise":
            return self._repeated(self.noise[form], n, form)
        if kind == "prose":
            return self._running(self.banks.prose, form, n)
        u, name = self.rng.random(), self.rng.choice(list(self.banks.lines))
        bank = self.banks.lines[name]
        if u < 0.36:
            return self._running(self.banks.prose, form, n)
        if u < 0.44:
            return self._drawn(self.banks.prose, form, n)
        if u < 0.54:
            return self._repeated(self.noise[form], n, form)
        if u < 0.66:
            return self._drawn(self.banks.lines["story"], form, n, self.rng.choice((5, 20, 100, None)))
        if u < 0.74:
            return self._drawn(bank, form, n, self.rng.choice((1, 2, 4, 8, 16)))
        if u < 0.88 or n < 200:
            return self._drawn(bank, form, n)
        a = self.rng.randint(50, n - 50)
        (x, cx), (y, cy) = self._fill(a, form, kind), self._fill(n - a, form, kind)
        return np.concatenate([x, y]), np.concatenate([cx, cy + a])
