"""Writes that are put off until all values are there, to be done in one step that nothing interrupts."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

Copies = list[tuple[Tensor, Tensor]]

MOST_DEFERRED = 320 * 2**20
"""Bytes of values that may wait: what a decoder call gives at most, and the vectors beside it."""


class Pending(Protocol):
    """A tensor whose values need not be spelled out before they are written."""

    @property
    def block(self) -> Tensor:
        """All its values, each once or more often."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    def tensor(self) -> Tensor:
        """Spell it out."""
        ...

    def copies_to(self, memory: Tensor) -> Copies | None:
        """Parts of ``memory`` and what to copy into each; ``None`` where that is not possible."""
        ...


class Deferred:
    """Copies into the memory of a model that wait for each other.

    Attributes:
        tensors: What they change.
        copies: A part of their memory and what is copied into it, each.
        done: A single number, which is 1 when all is written.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.copies: Copies = []
        self.done = torch.zeros(1)
        self._held: dict[int, int] = {}

    def add(self, tensor: Tensor, value: Pending) -> bool:
        """Take a write on, if it is one that cannot fail.

        Args:
            tensor: The parameter; its shape and dtype can hold ``value``.
            value: What to write.
        """
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        on_host = tensor.device.type == "cpu" and value.block.device.type == "cpu"
        if not plain or not on_host or tensor.is_inference() or _watched():
            return False
        copies = value.copies_to(tensor.detach())
        if copies is None:
            return False
        held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for _, each in copies}
        if sum((self._held | held).values()) > MOST_DEFERRED:
            return False
        self._held |= held
        self.tensors.append(tensor)
        self.copies += copies
        return True

    def lists(self) -> tuple[list[Tensor], list[Tensor]]:
        """Memory and values, for a single call; the last of them sets :attr:`done`."""
        memory, values = zip(*self.copies, (self.done, torch.ones(1)), strict=True)
        return list(memory), list(values)

    def clear(self) -> None:
        """Forget all copies."""
        self.tensors, self.copies, self._held = [], [], {}


def _watched() -> bool:
    """Whether modes see every call of torch: one may raise an error in the midst of it."""
    return bool(torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack())
