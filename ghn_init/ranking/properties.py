"""Predict a property of architectures (accuracy, latency, ...) from what a GHN makes of their graphs.

Knyazev et al., 2021, section 5.3: a small regressor on node embeddings averaged over the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ghn_init.errors import ConfigError
from ghn_init.ghn import GHN
from ghn_init.graph import PRIMITIVES, ArchGraph


def features(graphs: Sequence[ArchGraph], ghn: GHN) -> np.ndarray:
    """Embeddings of graphs, ``(len(graphs), 2 * hid + 18)`` float64.

    The mean and the standard deviation of the node embeddings; logarithms of the numbers of nodes, edges and
    parameter values; and the share of nodes of each of the 15 types.
    """
    rows = []
    for graph in graphs:
        with torch.no_grad():
            nodes = ghn.embed(graph).double().cpu()
        types = np.array([graph.type_counts.get(name, 0) for name in PRIMITIVES]) / len(graph)
        values = sum(slot.numel for node in graph.nodes for slot in node.params)
        sizes = np.log([len(graph), 1 + len(graph.edges), 1 + values])
        rows.append(np.concatenate([nodes.mean(0), nodes.std(0, correction=0), sizes, types]))
    return np.stack(rows)


@dataclass(frozen=True, eq=False)
class PropertyPredictor:
    """A fitted regressor from graphs to a number.

    Attributes:
        ghn: What embeds.
        regressor: Fitted scikit-learn pipeline.
        held_out: Predictions of the training graphs, each by a regressor that did not see it.
        values: Their true values.
    """

    ghn: GHN
    regressor: Any
    held_out: np.ndarray
    values: np.ndarray

    @classmethod
    def fit(
        cls, graphs: Sequence[ArchGraph], values: Sequence[float], ghn: GHN, *, folds: int = 10, seed: int = 0
    ) -> PropertyPredictor:
        """Fit a ridge regression whose strength is chosen by cross-validation inside of each fold.

        Args:
            graphs: Architectures whose property is known; at least two for each fold.
            values: The property.
            ghn: What embeds the graphs.
            folds: Of the cross-validation that gives ``held_out``.
            seed: Of the folds.

        Raises:
            ConfigError: Numbers of graphs and values differ, or there are too few.
        """
        if len(graphs) != len(values) or len(graphs) < 2 * folds:
            raise ConfigError(
                f"{len(graphs)} graphs and {len(values)} values: expected as many, and at least {2 * folds} "
                f"for {folds} folds"
            )
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import KFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = features(graphs, ghn), np.asarray(values, dtype=np.float64)
        pipeline = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
        held_out = cross_val_predict(pipeline, x, y, cv=KFold(folds, shuffle=True, random_state=seed))
        return cls(ghn, pipeline.fit(x, y), np.asarray(held_out), y)

    def predict(self, graphs: Sequence[ArchGraph]) -> np.ndarray:
        """The property of other architectures, ``(len(graphs),)``."""
        return self.regressor.predict(features(graphs, self.ghn))
