"""Gated graph neural network of GHN-1 and GHN-2 (Zhang et al., 2019; Knyazev et al., 2021, eq. 3 and 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.encoders.base import Encoder, register_encoder
from ghn_init.ghn.encoders.sweep import Levels, Weights, sweep
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
        forward = Levels.of(batch.distances.T, batch.joined("forward_levels"))
        backward = Levels.of(batch.distances, batch.joined("backward_levels"))
        weights = self._weights()
        for levels in [forward, backward] * self._sweeps:
            x = sweep(x.index_select(0, levels.order.to(x.device)), weights, levels)
            x = x.index_select(0, levels.places.to(x.device))
        return x

    def _weights(self) -> Weights:
        """Of the cell, and of the messages of all kinds joined, differentiable."""
        cell, spoken = self.cell, [self.message] + ([] if self.virtual is None else [self.virtual])
        first: list[Any] = [each[0] for each in spoken]
        second: list[Any] = [each[2] for each in spoken]
        return Weights(
            *(cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh),
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            torch.block_diag(*(layer.weight for layer in second)),
            torch.cat([layer.bias for layer in second]),
        )
