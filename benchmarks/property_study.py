"""What graph embeddings tell of four properties of networks: the table of properties of docs/ranking.md.

    python benchmarks/property_study.py     # reads results/trained_nets, ranking_scores and first_steps.jsonl

Properties of the held-out networks, measured here: test accuracy after 400 updates, mean over two seeds;
convergence, the updates until 70 % of the test images are classified correctly, interpolated between the
marks of ``trained_nets.py`` (800 where that is never reached); latency, CPU milliseconds of one image; and
robustness, accuracy on corrupted images after 50 steps, and its share of the accuracy on clean ones.

Each is predicted by :class:`ghn_init.ranking.PropertyPredictor`, always by a regressor that did not see the
network (10 folds, the mean over 5 divisions), and beside it by the same regression without embeddings, on
sizes and shares of node types. Intervals are percentiles over resamples of the networks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from agreement import cell, resamples, table, taus
from marked import write
from ranking_networks import COUNT_COLUMNS, SEEDS, lines
from ranking_scores import trained

import ghn_init
from ghn_init.graph import ArchGraph
from ghn_init.ranking import PropertyPredictor
from ghn_init.ranking.properties import features
from ghn_init.ranking.regression import LINKS, Scale, ridge
from ghn_init.training.spaces import held_out

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ranking.md"
GOAL, NEVER, FOLDS, REPEATS = 0.7, 800.0, 10, 5
Key = tuple[str, int]


@dataclass(frozen=True)
class Property:
    """One property of the networks for which it is known."""

    name: str
    scale: Scale
    values: dict[Key, float]


def measured() -> list[Property]:
    """All properties, from the files of results."""
    runs = trained()
    costs = _by_key([row for row in lines("ranking_scores.jsonl") if row["what"] == "costs"])
    robust = _by_key([row for row in lines("first_steps.jsonl") if row["start"] == "own"])
    corrupted = {key: float(np.mean(list(row["corrupted"].values()))) for key, row in robust.items()}
    kept = {key: min(value / robust[key]["clean"], 0.99) for key, value in corrupted.items()}
    accuracy = {key: _mean(rows, lambda marks: marks["400"]) for key, rows in runs.items()}
    return [
        Property("accuracy after 400 updates", "logit", accuracy),
        Property("updates to 70 %", "log", {key: _mean(rows, updates_to) for key, rows in runs.items()}),
        Property("latency", "log", {key: row["latency"] for key, row in costs.items() if key in runs}),
        Property("accuracy on corrupted images", "logit", corrupted),
        Property("its share of the accuracy on clean ones", "logit", kept),
    ]


def _by_key(rows: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    return {(row["family"], row["index"]): row for row in rows}


def _mean(rows: Mapping[int, dict[str, Any]], of: Any) -> float:
    return float(np.mean([of(rows[seed]["accuracies"]) for seed in SEEDS]))


def updates_to(accuracies: Mapping[str, float], goal: float = GOAL) -> float:
    """Updates until the accuracy reaches ``goal``, on a line between the marks around it."""
    before, low = 0.0, 0.1
    for mark, accuracy in ((float(mark), value) for mark, value in accuracies.items()):
        if accuracy >= goal:
            return before + (mark - before) * (goal - low) / (accuracy - low)
        before, low = mark, accuracy
    return NEVER


def graph_of(key: Key, ghn: ghn_init.GHN) -> ArchGraph:
    """The graph of a held-out network."""
    family, index = key
    model = held_out(family, index + 1)[index].build()
    return ghn_init.trace(model, torch.zeros(2, 3, 32, 32), convention=ghn.config.graph_convention)


def without_embeddings(x: np.ndarray, y: np.ndarray, scale: Scale, seed: int) -> np.ndarray:
    """The control's predictions ``(N,)``, on the same folds as :class:`PropertyPredictor`'s."""
    from sklearn.model_selection import KFold, cross_val_predict

    way, split = LINKS[scale], KFold(FOLDS, shuffle=True, random_state=seed)
    return way.back(np.asarray(cross_val_predict(ridge(), x, way.forward(y), cv=split)))


def study(found: Property, graphs: Mapping[Key, ArchGraph], ghn: ghn_init.GHN) -> list[str]:
    """A line of the table."""
    keys = [key for key in found.values if key in graphs]
    nets, y = [graphs[key] for key in keys], np.array([found.values[key] for key in keys])
    counts = features(nets, ghn)[:, -COUNT_COLUMNS:]
    options: dict[str, Any] = {"scale": found.scale, "folds": FOLDS}
    fits = [PropertyPredictor.fit(nets, y.tolist(), ghn, seed=seed, **options) for seed in range(REPEATS)]
    guess = np.mean([fit.held_out for fit in fits], axis=0)
    control = np.mean([without_embeddings(counts, y, found.scale, seed) for seed in range(REPEATS)], axis=0)
    weights = resamples(len(y))
    tau, plain = taus(guess, y, weights), taus(control, y, weights)
    size = taus(counts[:, 2], y, weights)
    explained = _explained(LINKS[found.scale].forward(guess), LINKS[found.scale].forward(y), weights)
    return [str(len(y)), cell(tau), cell(explained), cell(plain), cell(tau - plain), cell(size)]


def _explained(guess: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the variance explained ``(R,)``, in samples with repeats."""
    share = weights / weights.sum(1, keepdims=True)
    error, mean = share @ np.square(guess - y), share @ y
    return 1 - error / (share @ np.square(y) - np.square(mean))


def main() -> None:
    """Write the table into the page."""
    ghn = ghn_init.default.resolve_ghn("bundled")
    properties = measured()
    keys = sorted(set().union(*(found.values for found in properties)))
    graphs = {key: graph_of(key, ghn) for key in keys}
    head = [
        "property",
        "networks",
        "tau",
        "variance explained",
        "tau without embeddings",
        "lead over that",
        "tau of parameters",
    ]
    new = "\n".join(table(head, [(found.name, study(found, graphs, ghn)) for found in properties]))
    write(PAGE, {"properties": new})
    print(new)


if __name__ == "__main__":
    main()
