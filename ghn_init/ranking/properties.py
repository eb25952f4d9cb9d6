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
from ghn_init.extras import needed
from ghn_init.ghn import GHN
from ghn_init.graph import PRIMITIVES, ArchGraph
from ghn_init.ranking.regression import LINKS, Scale, link, ridge


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
        regressor: Fitted scikit-learn pipeline, to values on ``scale``.
        held_out: Predictions of the training graphs, each by a regressor that did not see it.
        values: Their true values.
        scale: What the values are linear on.
    """

    ghn: GHN
    regressor: Any
    held_out: np.ndarray
    values: np.ndarray
    scale: Scale = "linear"

    @classmethod
    def fit(
        cls,
        graphs: Sequence[ArchGraph],
        values: Sequence[float],
        ghn: GHN,
        *,
        beside: Any = None,
        scale: Scale = "linear",
        folds: int = 10,
        seed: int = 0,
    ) -> PropertyPredictor:
        """Fit a ridge regression whose strength is chosen by cross-validation inside of each fold.

        Args:
            graphs: Architectures whose property is known; at least two for each fold.
            values: The property.
            ghn: What embeds the graphs.
            beside: Further measurements of each graph, ``(N, K)``, such as accuracy after a few steps.
            scale: ``linear``; ``log`` for what is positive (latency); ``logit`` for shares (accuracy).
            folds: Of the cross-validation that gives ``held_out``.
            seed: Of the folds.

        Raises:
            ConfigError: Numbers of graphs and values differ, there are too few, or a value is outside of the
                range of the scale.
        """
        if len(graphs) != len(values) or len(graphs) < 2 * folds:
            raise ConfigError(
                f"{len(graphs)} graphs and {len(values)} values: expected as many, and at least {2 * folds} "
                f"for {folds} folds"
            )
        y = np.asarray(values, dtype=np.float64)
        way = link(scale, y)
        with needed("rank", "predicting a property"):
            from sklearn.model_selection import KFold, cross_val_predict
        pipeline, x = ridge(), _inputs(graphs, ghn, beside)
        split = KFold(folds, shuffle=True, random_state=seed)
        held_out = way.back(np.asarray(cross_val_predict(pipeline, x, way.forward(y), cv=split)))
        return cls(ghn, pipeline.fit(x, way.forward(y)), held_out, y, scale)

    def predict(self, graphs: Sequence[ArchGraph], beside: Any = None) -> np.ndarray:
        """The property of other architectures, ``(len(graphs),)``.

        Args:
            graphs: To predict for.
            beside: Their further measurements, if :meth:`fit` was given some.

        Raises:
            ConfigError: ``beside`` has another shape.
        """
        x = _inputs(graphs, self.ghn, beside)
        if x.shape[1] != self.regressor.n_features_in_:
            raise ConfigError(
                f"the predictor was fitted with {self.regressor.n_features_in_} features, and there are "
                f"{x.shape[1]}: give the same columns of beside"
            )
        return LINKS[self.scale].back(self.regressor.predict(x))


def _inputs(graphs: Sequence[ArchGraph], ghn: GHN, beside: Any) -> np.ndarray:
    found = features(graphs, ghn)
    if beside is None:
        return found
    columns = np.asarray(beside, dtype=np.float64).reshape(len(beside), -1)
    if len(columns) != len(graphs):
        raise ConfigError(f"beside has {len(columns)} rows for {len(graphs)} graphs")
    return np.column_stack([found, columns])
