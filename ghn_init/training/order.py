"""Orders that depend on the seed and the position alone, so that a resumed run continues them exactly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class Shuffled:
    """An endless sequence of indices below ``count``: one permutation after the other.

    Args:
        count: Number of things to go through.
        seed: Of the permutations.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def take(self, start: int, number: int) -> list[int]:
        """The indices at positions ``start`` to ``start + number``."""
        spans = (divmod(position, self._count) for position in range(start, start + number))
        return [int(self._epoch(epoch)[place]) for epoch, place in spans]

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(self._count)


def draw(bound: int, seed: int, position: int) -> int:
    """A whole number below ``bound``, uniformly; a function of the arguments alone."""
    return int(np.random.default_rng((seed, position)).integers(bound))
