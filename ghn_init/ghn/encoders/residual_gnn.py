"""Gated GNN beside a skip connection and the depth of a node, for training at small budgets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.encoders.base import Encoder, register_encoder
from ghn_init.ghn.encoders.gated_gnn import GatedGNN
from ghn_init.graph.batch import GraphBatch

DEPTH_FEATURES = 11
_FREQUENCIES = (1, 2, 4)


@register_encoder("residual_gnn")
class ResidualGNN(Encoder):
    """``x + depth + share * gated_gnn(x)``: what a node is and how deep it lies reach the decoders unmixed.

    The messages of a new gated GNN tell architectures apart at random, so that little of what is learned on
    one holds for the next; here they start with a small, learned share.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__(config)
        self.gnn = GatedGNN(config)
        self.depth = nn.Linear(DEPTH_FEATURES, config.hid)
        nn.init.normal_(self.depth.weight, std=0.5)
        self.share = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """See :meth:`Encoder.forward`."""
        features = torch.from_numpy(depth_features(batch)).to(x.device, x.dtype)
        return x + self.depth(features) + self.share * self.gnn(x, batch)


def depth_features(batch: GraphBatch) -> np.ndarray:
    """``(N, 11)`` float32 smooth functions of the longest paths from a source and to a sink, in edges.

    Relative depth in -1..1 and its waves, the logarithms of both path lengths, and how near either end is.
    """
    before = batch.joined("forward_levels").astype(np.float32)
    after = batch.joined("backward_levels").astype(np.float32)
    relative = before / np.maximum(before + after, 1)
    waves = [wave(np.pi * k * relative) for k in _FREQUENCIES for wave in (np.sin, np.cos)]
    lengths = [np.log1p(before) / 2 - 1, np.log1p(after) / 2 - 1]
    near = [np.exp(-after / 3), np.exp(-before / 3)]
    return np.stack([2 * relative - 1, *waves, *lengths, *near], axis=1)
