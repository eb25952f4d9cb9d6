"""Gated graph neural network of GHN-1 and GHN-2 (Zhang et al., 2019; Knyazev et al., 2021, eq. 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.encoders.base import Encoder, register_encoder
from ghn_init.graph.batch import GraphBatch


def _mlp(hid: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hid, hidden), nn.ReLU(), nn.Linear(hidden, hid), nn.ReLU())


@register_encoder("gated_gnn")
class GatedGNN(Encoder):
    """Sweeps over the graph, forward then backward; each node hears the already updated nodes before it.

    A node's message is the sum of ``message(h)`` over its neighbours and, with virtual edges, of
    ``virtual(h) / distance`` over all nodes that a path joins to it; a GRU cell then updates it.
    Nodes between which no path runs do not hear each other, so all nodes of one depth are updated
    at once: the same numbers as node by node.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__(config)
        hid = config.hid
        self._sweeps = config.layers
        self.message = _mlp(hid, hid // 2 if config.virtual_edges else hid)
        self.virtual = _mlp(hid, hid // 2) if config.virtual_edges else None
        self.cell = nn.GRUCell(hid, hid)

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """See :meth:`Encoder.forward`."""
        forward = _Sweep.of(batch.distances.T, batch.joined("forward_levels"))
        backward = _Sweep.of(batch.distances, batch.joined("backward_levels"))
        for _ in range(self._sweeps):
            x = self._sweep(x, forward)
            x = self._sweep(x, backward)
        return x

    def _sweep(self, x: Tensor, sweep: _Sweep) -> Tensor:
        x = x.index_select(0, sweep.order.to(x.device))
        kinds = 1 if self.virtual is None else 2
        said = x.new_zeros(x.shape[0], kinds, x.shape[1])
        updated: list[Tensor] = []
        for start, stop in zip(sweep.starts, sweep.starts[1:], strict=False):
            heard = sweep.weights(start, stop, virtual=kinds == 2).to(x)
            message = heard @ said[:start].flatten(0, 1)
            level = self.cell(message, x[start:stop])
            updated.append(level)
            said[start:stop] = self._speak(level)
        return torch.cat(updated).index_select(0, sweep.places.to(x.device))

    def _speak(self, x: Tensor) -> Tensor:
        """``(n, kinds, hid)`` messages of n nodes."""
        if self.virtual is None:
            return self.message(x).unsqueeze(1)
        return torch.stack([self.message(x), self.virtual(x)], dim=1)


@dataclass(frozen=True, eq=False)
class _Sweep:
    """Nodes in the order of their levels, and how much each hears of those before it.

    Attributes:
        order: ``(N,)`` node at each position; ``places`` is the inverse.
        starts: First position of each level, and N.
        distances: ``(N, N)`` uint8; row = who hears, column = who speaks, both by position.
    """

    order: Tensor
    places: Tensor
    starts: list[int]
    distances: np.ndarray

    @classmethod
    def of(cls, distances: np.ndarray, levels: np.ndarray) -> _Sweep:
        order = np.argsort(levels, kind="stable")
        starts = np.searchsorted(levels[order], np.arange(levels.max() + 2))
        return cls(
            torch.from_numpy(order),
            torch.from_numpy(np.argsort(order)),
            [int(start) for start in starts],
            distances[order][:, order],
        )

    def weights(self, start: int, stop: int, *, virtual: bool) -> Tensor:
        """``(stop - start, start * kinds)`` float32 factors of what each node before ``start`` says."""
        distances = self.distances[start:stop, :start]
        edges = (distances == 1).astype(np.float32)
        if not virtual:
            return torch.from_numpy(edges)
        paths = _INVERSE[distances]
        return torch.from_numpy(np.stack([edges, paths], axis=2).reshape(stop - start, -1))


_INVERSE = np.array([0.0, *(1.0 / distance for distance in range(1, 256))], dtype=np.float32)
