"""Scores that draw on other candidates: smoothed over graphs, or expected from trained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ghn_init.errors import ConfigError
from ghn_init.extras import needed
from ghn_init.ranking.regression import LINKS, STRENGTHS, leave_one_out, link

FEWEST = 20
"""Candidates that smoothing needs, and trained ones that a regression does: with fewer neither is better than
the plain score (docs/ranking.md)."""


def smoothed(accuracies: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Mean of each candidate's accuracy and of what those of all others say of it.

    The latter is a ridge regression on the graphs' features that did not see the candidate: an accuracy after
    a few steps is noisy, and alike graphs do alike.

    Args:
        accuracies: ``(C, 1 + R)``: on the images, and on R resamples of them.
        features: Of the graphs, ``(C, D)``.

    Returns:
        ``(C, 1 + R)``.
    """
    return (accuracies + leave_one_out(features, accuracies)) / 2


def expected(
    accuracies: np.ndarray, features: np.ndarray, flops: np.ndarray, known: Mapping[int, float], seed: int
) -> np.ndarray:
    """Accuracy after training, by a ridge regression on the candidates that were trained.

    It reads the graphs' features, the accuracy before training (on the logit scale) and the FLOPs.

    Args:
        accuracies: ``(C, 1 + R)``: before training, on the images and on R resamples of them.
        features: Of the graphs, ``(C, D)``.
        flops: ``(C,)``.
        known: Position → accuracy after training, at least :data:`FEWEST`.
        seed: Of the resamples of the trained candidates.

    Returns:
        ``(C, 1 + R)``: the estimate, and with each resample of images and trained candidates another; those
        that are known are as they are.
    """
    with needed("rank", "a regression on trained candidates"):
        from sklearn.linear_model import Ridge, RidgeCV
        from sklearn.preprocessing import StandardScaler

    at, logit = np.array(list(known)), LINKS["logit"]
    values = np.array(list(known.values()))
    target = logit.forward(values)
    before = logit.forward(np.clip(accuracies, 0.002, 0.998))
    constant = np.column_stack([features, np.log1p(flops)])

    def inputs(column: int) -> np.ndarray:
        return np.column_stack([constant, before[:, column]])

    scale = StandardScaler().fit(inputs(0)[at])
    ridge = Ridge(float(RidgeCV(STRENGTHS).fit(scale.transform(inputs(0)[at]), target).alpha_ or 0))
    found = np.empty_like(accuracies)
    draws, drawn = np.random.default_rng(seed), np.arange(len(at))
    for column in range(accuracies.shape[1]):
        x = scale.transform(inputs(column))
        found[:, column] = ridge.fit(x[at[drawn]], target[drawn]).predict(x)
        drawn = draws.integers(len(at), size=len(at))
    found = logit.back(found)
    found[at] = values[:, None]
    return found


def check_trained(trained: Mapping[str, float] | None, names: Sequence[str]) -> None:
    """Refuse accuracies that nothing can be learned from.

    Raises:
        ConfigError: One is of no candidate or not between 0 and 1, or there are fewer than :data:`FEWEST`.
    """
    if trained is None:
        return
    unknown = [name for name in trained if name not in names]
    if unknown:
        raise ConfigError(f"trained has {unknown[0]!r}, which is no candidate")
    if len(trained) < FEWEST:
        raise ConfigError(
            f"trained has the accuracies of {len(trained)} candidates; a regression needs at least {FEWEST}"
        )
    link("logit", np.array(list(trained.values()), dtype=np.float64))
