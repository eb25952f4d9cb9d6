"""Decoded values to usable weights: fan-in scaling, and bounded norm weights and biases."""

from __future__ import annotations

import torch
from torch import Tensor


def bounded_norm_weight(x: Tensor) -> Tensor:
    """``2 sigmoid(x / 2)``: a norm's weight in 0..2, 1 at zero (Knyazev et al., 2021, section 4.2)."""
    return 2 * torch.sigmoid(0.5 * x)


def bounded_bias(x: Tensor) -> Tensor:
    """``tanh(x / 5)``: a bias in -1..1 (Knyazev et al., 2021, section 4.2)."""
    return torch.tanh(0.2 * x)
