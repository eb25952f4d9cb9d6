"""Intervals of scores, and shares of being the best, from resamples of the images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ghn_init.ranking.ranking import Ranked

DRAWS = 1000
"""Resamples of the images behind every interval."""


def resampled(right: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Accuracies on the images and on resamples of them, the same ones for all candidates.

    Args:
        right: Share of the starts from which each image was classified correctly, ``(N,)``, for each of C
            candidates.
        seed: Of the resamples.

    Returns:
        ``(C, 1 + DRAWS)``, the accuracy on the images themselves first.
    """
    hits = np.stack(right).astype(np.float64)
    count = hits.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    weights = np.vstack([np.ones(count), drawn]) / count
    return hits @ weights.T


def with_intervals(entries: Sequence[Ranked], scores: np.ndarray) -> list[Ranked]:
    """Ranked entries with ``score``, ``low``, ``high`` and ``best``.

    Args:
        entries: C candidates that were ranked.
        scores: ``(C, 1 + draws)``: the scores, and the scores in each resample.
    """
    drawn = scores[:, 1:]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=1)
    leads = drawn >= drawn.max(0) - 1e-6  # of several that lead, each gets its part
    first = (leads / leads.sum(0)).mean(1)
    columns = np.column_stack([scores[:, 0], low, high, first]).tolist()
    return [
        replace(entry, score=score, low=low, high=high, best=best)
        for entry, (score, low, high, best) in zip(entries, columns, strict=True)
    ]


def pack(right: np.ndarray) -> str:
    """Bits as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """Inverse of :func:`pack`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)
