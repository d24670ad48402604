"""Kinds of options."""

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass

LONG_CONTEXT = 65536  # prompts from here on take seconds, and differ little between runs


@dataclass(frozen=True)
class Repeats:
    """Timed runs at a context, the same for every program."""

    short: int
    long: int

    def at(self, context: int) -> int:
        return self.short if context < LONG_CONTEXT else min(self.short, self.long)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs numbers above 0, not '{text}'")
    return int(text)


def positive_list(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def names(known: Collection[str] = ()) -> Callable[[str], list[str]]:
    """Words with commas between, each of them `known` unless that is empty."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        for word in words:
            if known and word not in known:
                raise argparse.ArgumentTypeError(f"knows {', '.join(known)}, not '{word}'")
        return words

    return parse
