"""Initial node embeddings: operation type and tensor shape (Knyazev et al., 2021, section 4.3)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.views import node_view
from ghn_init.graph import ArchGraph
from ghn_init.graph.batch import GraphBatch


def channel_sizes(num_classes: int) -> np.ndarray:
    """Channel counts that have an embedding row of their own, in ascending order."""
    sizes = {1, 3, num_classes, *range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32)}
    return np.array(sorted(sizes))


def kernel_sizes(largest: int) -> np.ndarray:
    """Kernel sizes that have an embedding row of their own, in ascending order."""
    return np.array(sorted({*range(1, max(12, largest), 2), 14, 16}))


def _nearest(sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the nearest size; of two equally near ones the smaller."""
    above = np.searchsorted(sizes, wanted).clip(1, len(sizes) - 1)
    below = above - 1
    return np.where(wanted - sizes[below] <= sizes[above] - wanted, below, above)


class NodeEmbedding(nn.Module):
    """Sum of a type embedding and four joined shape embeddings ``(out, in, kh, kw)``, each hid / 4 wide."""

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self._channels = channel_sizes(config.num_classes)
        self._kernels = kernel_sizes(config.max_shape[3])
        self.primitive = nn.Embedding(len(config.primitives), config.hid)
        self.channel = nn.Embedding(len(self._channels) + 1, config.hid // 4)
        self.spatial = nn.Embedding(len(self._kernels) + 1, config.hid // 4)
        self._known: WeakKeyDictionary[ArchGraph, np.ndarray] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_known"}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._known = WeakKeyDictionary()

    def shape_rows(self, graph: ArchGraph) -> np.ndarray:
        """``(N, 4)`` int64 rows of the channel (first two) and spatial tables.

        A size without a row of its own takes the nearest one's; 4 to 7 channels that of 8, a kernel of 2
        that of 3. A node without a shape takes the last row of each table.
        """
        rows = self._known.get(graph)
        if rows is None:
            views = [node_view(node) for node in graph.nodes]
            sizes = np.array([view or (1, 1, 1, 1) for view in views], dtype=np.int64).reshape(-1, 4)
            channels, kernels = sizes[:, :2], sizes[:, 2:]
            channels = np.where((channels >= 4) & (channels < 8), 8, channels)
            kernels = np.where(kernels == 2, 3, kernels)
            rows = np.concatenate(
                [_nearest(self._channels, channels), _nearest(self._kernels, kernels)], axis=1
            )
            without = np.array([view is None for view in views])
            ends = len(self._channels), len(self._kernels)
            rows[without] = (ends[0], ends[0], ends[1], ends[1])
            self._known[graph] = rows
        return rows

    def forward(self, batch: GraphBatch) -> Tensor:
        """``(N, hid)`` initial embeddings of all nodes of a batch."""
        device = self.primitive.weight.device
        rows = np.concatenate([self.shape_rows(graph) for graph in batch.graphs])
        index = torch.from_numpy(rows).to(device)
        types = self.primitive(torch.from_numpy(batch.type_ids).to(device))
        shapes = torch.cat([self.channel(index[:, :2]), self.spatial(index[:, 2:])], dim=1)
        return types + shapes.flatten(1)
