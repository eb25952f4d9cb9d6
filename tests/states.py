"""A small GHN, a few models, and exact snapshots of a model's state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ghn_init import GHN, GHNConfig


def tiny_ghn(seed: int = 0, **changes: Any) -> GHN:
    """A GHN with random weights that predicts in milliseconds; 10 classes."""
    settings = {"hid": 16, "layers": 1, "heads": 2, "num_classes": 10, "max_shape": (16, 16, 7, 7), **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GHN(GHNConfig(**settings)).eval()


class ConvNet(nn.Module):
    """Convolutions, batch norm, a skip and a head of ``classes`` classes, for images of 3 channels."""

    def __init__(self, classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.conv(x)
        return self.head(x.mean((2, 3)))


class TiedNet(nn.Module):
    """Token embedding tied to the output projection."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 12, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.hidden(self.embed(tokens)).relu())


IMAGE = torch.zeros(1, 3, 8, 8)


class Snapshot:
    """Everything of a model that an undone write must leave bit-equal, object identities included."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors = self._tensors()
        self.values = {name: _bits(tensor) for name, tensor in self.tensors.items()}
        self.modes = [module.training for module in model.modules()]

    def _tensors(self) -> dict[str, Tensor]:
        named = [*self.model.named_parameters(remove_duplicate=False)]
        named += [*self.model.named_buffers(remove_duplicate=False)]
        return dict(named)

    def changed(self) -> list[str]:
        """Names of the tensors that were replaced, or whose bits changed; ``modes`` if a mode did."""
        now = self._tensors()
        assert now.keys() == self.tensors.keys()
        names = [
            name
            for name, tensor in now.items()
            if tensor is not self.tensors[name] or not torch.equal(_bits(tensor), self.values[name])
        ]
        return names + (["modes"] if self.modes != [m.training for m in self.model.modules()] else [])


def _bits(tensor: Tensor) -> Tensor:
    if tensor.is_meta or tensor.numel() == 0:
        return torch.zeros(0)
    return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
