"""Ridge regressions on the graph features of candidates: from measured values, and from their own scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ghn_init.errors import ConfigError
from ghn_init.extras import needed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Scale = Literal["linear", "log", "logit"]
STRENGTHS = np.logspace(-2, 4, 25)
"""Of the ridge's penalty, on standardised features; cross-validation chooses."""


@dataclass(frozen=True)
class Link:
    """A scale on which a property is nearer to linear, and the way back."""

    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]
    valid: Callable[[np.ndarray], np.ndarray]
    range: str


LINKS: Mapping[str, Link] = {
    "linear": Link(lambda y: y, lambda z: z, np.isfinite, "finite"),
    "log": Link(np.log, np.exp, lambda y: np.isfinite(y) & (y > 0), "above 0"),
    "logit": Link(
        lambda y: np.log(y) - np.log1p(-y),
        lambda z: 1 / (1 + np.exp(-z)),
        lambda y: (y > 0) & (y < 1),
        "between 0 and 1",
    ),
}


def link(scale: str, values: np.ndarray) -> Link:
    """The scale of that name.

    Raises:
        ConfigError: It is unknown, or a value is outside of its range.
    """
    if scale not in LINKS:
        raise ConfigError(f"scale must be one of {', '.join(get_args(Scale))}, not {scale!r}")
    found = LINKS[scale]
    outside = values[~found.valid(values)]
    if len(outside):
        raise ConfigError(f"values on the scale {scale!r} must be {found.range}; one is {outside[0]}")
    return found


def ridge() -> Pipeline:
    """A ridge regression on standardised features, whose strength leave-one-out errors choose."""
    with needed("rank", "a regression on graph embeddings"):
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(STRENGTHS))


def leave_one_out(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What a ridge regression that was fitted on all other rows says of each row.

    In closed form from the hat matrix (Golub, Heath & Wahba, 1979). The strength is the one with the least
    squared error in the first column of ``values``; the features are standardised once, on all rows.

    Args:
        features: ``(N, D)``.
        values: ``(N, R)``.

    Returns:
        Predictions ``(N, R)``.
    """
    spread = features.std(0)
    standard = (features - features.mean(0)) / np.where(spread > 0, spread, 1.0)
    u, s, _ = np.linalg.svd(standard, full_matrices=False)
    best, least = values, np.inf
    for strength in STRENGTHS:
        hat = (u * (s**2 / (s**2 + strength))) @ u.T + 1 / len(values)
        own = np.diag(hat)[:, None]
        predicted = (hat @ values - own * values) / (1 - own)
        error = float(np.square(predicted[:, 0] - values[:, 0]).mean())
        if error < least:
            best, least = predicted, error
    return best
