"""How far a score orders networks as a truth does: Kendall's tau, top-5 regret, and intervals of both."""

from __future__ import annotations

import numpy as np

RESAMPLES, TOP = 2_000, 5


def taus(
    score: np.ndarray, truth: np.ndarray, weights: np.ndarray, pairs: np.ndarray | None = None
) -> np.ndarray:
    """Kendall's tau-b of samples with repeats.

    Args:
        score: ``(N,)``.
        truth: ``(N,)``.
        weights: ``(R, N)``: network i is ``weights[r, i]`` times in sample r.
        pairs: ``(N, N)`` bool: pairs that count; default all.

    Returns:
        ``(R,)``; nan where one of both is constant.
    """
    a, b = (np.sign(values[:, None] - values[None]) for values in (ranks(score), ranks(truth)))
    if pairs is not None:
        a, b = a * pairs, b * pairs
    agree, in_a, in_b = (((weights @ matrix) * weights).sum(1) for matrix in (a * b, np.abs(a), np.abs(b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return agree / np.sqrt(in_a * in_b)


def ranks(values: np.ndarray) -> np.ndarray:
    """Dense ranks, so that infinities compare."""
    return np.unique(values, return_inverse=True)[1].astype(float)


def regrets(score: np.ndarray, truth: np.ndarray, weights: np.ndarray, top: int = TOP) -> np.ndarray:
    """``(R,)``: best accuracy in each sample minus the best of its ``top`` highest scores, in points."""
    order = np.lexsort((truth, -ranks(score)))
    found = []
    for row in weights:
        there = order[row[order] > 0]
        found.append(100 * (truth[there].max() - truth[there[:top]].max()))
    return np.array(found)


def resamples(number: int, count: int = RESAMPLES) -> np.ndarray:
    """How often each network is in each resample, ``(count + 1, number)``; the first is the sample itself."""
    drawn = np.random.default_rng(0).multinomial(number, [1 / number] * number, size=count)
    return np.vstack([np.ones(number, int), drawn]).astype(float)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval over the resamples, without the sample itself."""
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return float(low), float(high)


def cell(values: np.ndarray, form: str = "{:.2f}") -> str:
    """The value of the sample, and the 95 % interval over the resamples."""
    if np.isnan(values[0]):
        return "–"
    low, high = interval(values)
    return f"{form.format(values[0])} ({form.format(low)} to {form.format(high)})".replace("-", "−")


def lead(values: np.ndarray) -> str:
    """A difference, bold if its interval is on one side of 0."""
    low, high = interval(values)
    text = cell(values)
    return f"**{text}**" if low > 0 or high < 0 else text


def row(name: str, cells: list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {name} | {' | '.join(cells)} |"


def table(head: list[str], rows: list[tuple[str, list[str]]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    return [row(head[0], head[1:]), "|---|" + "---:|" * (len(head) - 1), *(row(*line) for line in rows)]
