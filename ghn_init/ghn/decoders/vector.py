"""Decoder of one-dimensional tensors: norm weights, biases, and biases of class layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig


class VectorDecoder(nn.Module):
    """Two-layer MLP that yields a norm weight and a bias for every node."""

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.width = max(config.max_shape[:2])
        self.hidden = nn.Linear(config.hid, 2 * config.hid)
        self.output = nn.Linear(2 * config.hid, 2 * self.width)
        self.classes = nn.Linear(self.width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, 2, max(max_shape[:2]))`` of ``(n, hid)`` embeddings: norm weights, then biases."""
        return self.output(F.relu(self.hidden(x))).unflatten(1, (2, self.width))

    def class_bias(self, x: Tensor) -> Tensor:
        """``(n, num_classes)`` biases of class layers."""
        return self.classes(F.relu(self(x)[:, 1]))
