"""Large blocks of host memory on huge pages, where the system has them on request."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_SMALL = 32 * 2**20
"""Bytes below which the C library hands out memory again that was touched before."""

_ALIGNMENT = 64  # bytes; of torch's own CPU allocations


def large_empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """What ``like.new_empty(shape)`` gives; in host memory, touching it for the first time costs a third.

    NumPy asks the system for huge pages, torch does not, and touching 4-kB pages for the first time takes
    longer than what a decoder writes into them.
    """
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < _SMALL:
        return like.new_empty(*shape)
    memory = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(*shape)
