"""Gated GNN beside a skip connection, depth and plain means of what surrounds a node."""

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
    """``x + depth + before + after + graph + share * gated_gnn(x)``: the decoders see what a node is unmixed.

    ``before``, ``after`` and ``graph`` are linear in the mean embeddings of a node's sources, of its targets
    and of all nodes of its graph, and zero at first; the gated GNN has a learned share, 0.3 at first.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__(config)
        hid = config.hid
        self.gnn = GatedGNN(config)
        self.depth = nn.Linear(DEPTH_FEATURES, hid)
        nn.init.normal_(self.depth.weight, std=0.5)
        self.before = nn.Linear(hid, hid, bias=False)
        self.after = nn.Linear(hid, hid, bias=False)
        self.graph = nn.Linear(hid, hid, bias=False)
        self.share = nn.Parameter(torch.tensor(0.3))
        for layer in (self.before, self.after, self.graph):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """See :meth:`Encoder.forward`."""
        depth = torch.from_numpy(depth_features(batch)).to(x.device, x.dtype)
        edges = [each.edges + offset for each, offset in zip(batch.structures, batch.offsets, strict=True)]
        source, target = torch.from_numpy(np.concatenate(edges)).to(x.device).unbind(1)
        sizes = torch.tensor([len(each) for each in batch.structures], device=x.device)
        owner = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
        means = _mean(x, owner, len(sizes)).index_select(0, owner)
        around = self.before(_mean(x.index_select(0, source), target, len(x)))
        around = around + self.after(_mean(x.index_select(0, target), source, len(x)))
        return x + self.depth(depth) + self.graph(means) + around + self.share * self.gnn(x, batch)


def _mean(values: Tensor, places: Tensor, count: int) -> Tensor:
    """``(count, hid)`` means of the rows that have each place; zero where none has it."""
    total = values.new_zeros(count, values.shape[1]).index_add(0, places, values)
    number = torch.bincount(places, minlength=count).clamp(min=1)
    return total / number.unsqueeze(1)


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
