"""Comparisons that the tests of the hooks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def seeded(build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``build(*args, **kwargs)`` under seed 0."""
    torch.manual_seed(0)
    return build(*args, **kwargs)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def differing(one: nn.Module, other: nn.Module) -> set[str]:
    """Names whose values are not bit-equal; the models must have the same names."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    return {name for name in left if not torch.equal(left[name], right[name])}


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    return not differing(one, other)
