"""The networks of trained_nets.py with every score before training: what ranking_evidence.py judges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ghn_init.ranking.estimates import expected, smoothed
from ghn_init.ranking.regression import LINKS, ridge

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS, LAST_MARK, FEWEST = (0, 1), "400", 5
ZERO_SHOT = "GHN, no steps"
REGRESSOR, EXPECTED = "regressor from embeddings", "regressor from embeddings and 50 steps"
COUNTS, COUNT_COLUMNS = "regressor without embeddings", 18
"""The control: sizes and shares of the types only, the last columns of the features."""
PROXIES = ("synflow", "naswot", "grad_norm")
BASELINES = ("parameters", "FLOPs", "latency", *PROXIES)
BARS, WITHIN = {"all": 0.5, "with batch norm": 0.3}, "within families"
STARTS, ABRUPT = {"ghn": "GHN", "own": "own weights", "both": "both"}, (10, 25, 50)


@dataclass(frozen=True)
class Networks:
    """What is known of the networks that both seeds trained.

    Attributes:
        keys: Family and index of each of the N networks.
        seeds: Trained accuracies ``(2, N)``.
        batchnorm: ``(N,)`` bool.
        features: Of the graphs, ``(N, D)``, as :func:`ghn_init.ranking.properties.features` gives them.
        scores: Name → ``(N,)``; larger is better.
    """

    keys: list[tuple[str, int]]
    seeds: np.ndarray
    batchnorm: np.ndarray
    features: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def truth(self) -> np.ndarray:
        """``(N,)``: what the scores are to predict."""
        return self.seeds.mean(0)

    @cached_property
    def families(self) -> np.ndarray:
        """``(N,)`` names."""
        return np.array([family for family, _ in self.keys])

    def groups(self) -> dict[str, np.ndarray]:
        """Name → ``(N,)`` bool: all, by batch norm, and each family of at least five."""
        found = {"all": np.ones(len(self.keys), bool), "with batch norm": self.batchnorm}
        for family in dict.fromkeys(self.families):
            found[str(family)] = self.families == family
        return {name: members for name, members in found.items() if members.sum() >= FEWEST}


def abrupt_name(start: str, steps: int = 50, smooth: bool = False) -> str:
    """Name of the accuracy after steps that begin with the highest learning rate."""
    return f"{STARTS[start]} + {steps} abrupt steps{', smoothed' if smooth else ''}"


def lines(name: str) -> list[dict[str, Any]]:
    """Rows of a file of results."""
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def read() -> Networks:
    """Networks with both seeds and all scores."""
    accuracies = {
        (row["family"], row["index"], row["seed"]): row["accuracies"][LAST_MARK]
        for row in lines("trained_nets.jsonl")
    }
    found: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in lines("ranking_scores.jsonl"):
        found.setdefault((row["family"], row["index"]), {})[row["what"]] = row
    most = max(len(rows) for rows in found.values())
    keys = sorted(
        key
        for key, rows in found.items()
        if len(rows) == most and all((*key, seed) in accuracies for seed in SEEDS)
    )
    rows = [found[key] for key in keys]
    seeds = np.array([[accuracies[(*key, seed)] for key in keys] for seed in SEEDS])
    batchnorm = np.array([row["features"]["batchnorm"] for row in rows])
    features = np.array([row["features"]["features"] for row in rows])
    return Networks(keys, seeds, batchnorm, features, _scores(rows, features, seeds.mean(0)))


def _scores(
    rows: list[dict[str, dict[str, Any]]], features: np.ndarray, truth: np.ndarray
) -> dict[str, np.ndarray]:
    found = {ZERO_SHOT: np.array([row["ghn 0"]["accuracy"] for row in rows])}
    for steps in ABRUPT:
        ghn, own = (
            np.array([row[f"{start} {steps}"]["accuracy"] for row in rows]) for start in ("ghn", "own")
        )
        for start, plain in (("ghn", ghn), ("own", own), ("both", (own + ghn) / 2)):
            found[abrupt_name(start, steps)] = plain
            found[abrupt_name(start, steps, smooth=True)] = smoothed(plain[:, None], features)[:, 0]
    found[f"{ZERO_SHOT}, smoothed"] = smoothed(found[ZERO_SHOT][:, None], features)[:, 0]
    for name in BASELINES:
        values = [_cost(row["costs"], name) for row in rows]
        found[name] = np.nan_to_num(np.array(values, float), nan=-np.inf)
    found[REGRESSOR] = cross_validated(features, truth)
    found[COUNTS] = cross_validated(features[:, -COUNT_COLUMNS:], truth)
    found[EXPECTED] = cross_expected(found[abrupt_name("both")], features, found["FLOPs"], truth)
    return found


def _cost(row: Mapping[str, Any], name: str) -> float:
    """A proxy that overflows has no value in its row: the network is last."""
    if name in PROXIES:
        return row["proxies"].get(name, -np.inf)
    return row[name.lower()]


def fit_predict(x: np.ndarray, y: np.ndarray, known: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Accuracies of the networks at ``others`` by a ridge regression, on the logit scale, on those known."""
    fitted = ridge().fit(x[known], LINKS["logit"].forward(y[known]))
    return LINKS["logit"].back(np.asarray(fitted.predict(x[others])))


def fit_expected(
    before: np.ndarray, features: np.ndarray, flops: np.ndarray, y: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """What ``rank(trained=...)`` expects of all networks where those at ``known`` were trained, ``(N,)``."""
    trained = {int(i): float(y[i]) for i in known}
    return expected(before[:, None], features, flops, trained, seed=0)[:, 0]


def cross_validated(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions ``(N,)`` by regressions that did not see the network, mean over repeated folds."""
    found = np.zeros(len(y))
    for known, others in _folds(len(y)):
        found[others] += fit_predict(x, y, known, others)
    return found


def cross_expected(before: np.ndarray, features: np.ndarray, flops: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same by :func:`fit_expected`."""
    found = np.zeros(len(y))
    for known, others in _folds(len(y)):
        found[others] += fit_expected(before, features, flops, y, known)[others]
    return found


def _folds(number: int, folds: int = 10, repeats: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold

    splits = (KFold(folds, shuffle=True, random_state=seed) for seed in range(repeats))
    return [pair for split in splits for pair in split.split(np.zeros(number))]
