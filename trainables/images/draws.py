"""`Draws`, random numbers that depend on a seed and on the sample alone, for whole batches at once."""

import numpy as np
from numpy.typing import NDArray

from trainables.images.augmentation_ranges import Range

GOLDEN = 0x9E3779B97F4A7C15
"""Weyl increment of SplitMix64."""
Floats = NDArray[np.float64]


class Draws:
    """Uniform random numbers for each of B samples, `samples` (any integers).

    The k-th number of a sample is a hash of (seed, view, sample, k), whatever else is in the batch.
    The hash is the finalizer of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
    """

    def __init__(self, seed: int, view: int, samples: NDArray[np.int64]) -> None:
        state = np.array([seed % 2**64], np.uint64)
        for part in (np.array([view], np.int64), samples):
            state = _mixed(state + np.uint64(GOLDEN)) ^ part.astype(np.uint64)
        self._state = _mixed(state)
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._state)

    def uniform(self, between: Range = (0.0, 1.0), count: int | None = None) -> Floats:
        """Return the next number of each sample, `(B,)`, or its next `count` numbers, `(B, count)`, uniform in a range."""
        low, high = between
        mantissas = (self._bits(count or 1) >> np.uint64(11)).astype(np.float64)  # 53 bits
        values: Floats = low + (high - low) * mantissas * 2.0**-53
        return values if count is not None else values[:, 0]

    def chance(self, probability: float) -> NDArray[np.bool_]:
        """Return for each sample `(B,)` whether what has this probability happens."""
        return self.uniform() < probability

    def integer(self, lowest: int, largest: int) -> NDArray[np.int64]:
        """Return the next integer of each sample, `(B,)`, each from `lowest` to `largest` as likely."""
        return np.floor(self.uniform((lowest, largest + 1))).astype(np.int64)

    def seeds(self) -> NDArray[np.int64]:
        """Return for each sample `(B,)` a seed from 0 to 2⁶³ - 1, for what another generator draws."""
        return (self._bits(1)[:, 0] >> np.uint64(1)).astype(np.int64)

    def _bits(self, count: int) -> NDArray[np.uint64]:
        numbers = np.arange(self._drawn + 1, self._drawn + 1 + count, dtype=np.uint64)
        self._drawn += count
        return _mixed(self._state[:, None] + numbers * np.uint64(GOLDEN))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
