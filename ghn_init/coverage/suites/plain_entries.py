"""How plain modules are written down: a builder and inputs, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Zoo = dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]]
X = torch.zeros(2, 8, device="cpu")
SEQUENCE = torch.zeros(2, 5, 8, device="cpu")
IMAGE = torch.zeros(2, 3, 16, 16, device="cpu")
TOKENS = torch.arange(10, device="cpu").view(2, 5)


class Entries:
    """Collects the modules of one file."""

    def __init__(self) -> None:
        self.zoo: Zoo = {}

    def entry(
        self, inputs: Callable[[], Any]
    ) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
        """Register a builder under its name."""

        def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
            self.zoo[build.__name__] = (build, inputs)
            return build

        return register

    def add(self, name: str, build: Callable[[], nn.Module], inputs: Any) -> None:
        """Register a builder and its inputs."""
        self.zoo[name] = (build, lambda: inputs)


class Forward(nn.Module):
    """Modules and parameters by name, and a forward over them."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function makes of this module and the inputs."""
        return self.function(self, *args, **kwargs)


def weight(*shape: int) -> nn.Parameter:
    """A random parameter."""
    return nn.Parameter(torch.randn(*shape) / 4)


def two(function: Callable[..., Any], *sizes: int) -> nn.Module:
    """Two linear layers ``a`` and ``b``."""
    first, second, third, fourth = sizes or (8, 8, 8, 2)
    return Forward(function, a=nn.Linear(first, second), b=nn.Linear(third, fourth))
