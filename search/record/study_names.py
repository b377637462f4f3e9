"""Readable names for studies that were given none."""

import random
from collections.abc import Iterable

ADJECTIVES = (
    "amber",
    "brisk",
    "calm",
    "dewy",
    "early",
    "fresh",
    "green",
    "hardy",
    "juicy",
    "keen",
    "late",
    "mellow",
    "ripe",
    "sunny",
    "tender",
    "young",
)
NOUNS = (
    "almond",
    "apple",
    "cherry",
    "citron",
    "fig",
    "grape",
    "lemon",
    "mango",
    "medlar",
    "olive",
    "orange",
    "peach",
    "pear",
    "plum",
    "quince",
    "walnut",
)


def fresh_name(used: Iterable[str]) -> str:
    """Return a random readable name that is not in `used`, such as ``ripe-fig``; one with random digits if every readable name is used."""
    free = [f"{a}-{n}" for a in ADJECTIVES for n in NOUNS if f"{a}-{n}" not in set(used)]
    return random.SystemRandom().choice(free) if free else f"study-{random.SystemRandom().getrandbits(48):012x}"
