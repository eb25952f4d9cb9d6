"""Writes that are put off until all values are there, to be done in one step that nothing interrupts."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ghn_init.errors import AssignError

Copies = list[tuple[Tensor, Tensor]]

MOST_DEFERRED = 320 * 2**20
"""Bytes of values that may wait: what the only decoder call gives at most, and the vectors beside it."""

_ATTEMPTS = 100
"""Times that copies which failed, or were interrupted, are done again."""
_RESERVE = 4 * 2**20
"""Bytes kept for the case that nothing is left for the bookkeeping of a copy."""


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

    @property
    def may_wait(self) -> bool:
        """Whether keeping its values until all are there needs no more memory than decoding them."""
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
        begun: Whether some of them may have been done, and the others must be.
        done: A single number, which is 1 when all is written.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.copies: Copies = []
        self.begun = False
        self.done = torch.zeros(1)
        self._reserve: bytearray | None = None
        self._held: dict[int, int] = {}

    def add(self, tensor: Tensor, value: Pending) -> bool:
        """Take a write on, if it is one that cannot fail.

        Args:
            tensor: The parameter; its shape and dtype can hold ``value``.
            value: What to write.
        """
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        on_host = tensor.device.type == "cpu" and value.block.device.type == "cpu"
        if not value.may_wait or not plain or not on_host or tensor.is_inference() or watched():
            return False
        copies = value.copies_to(tensor.detach())
        if copies is None or any(part.shape != each.shape for part, each in copies):
            return False
        held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for _, each in copies}
        if sum((self._held | held).values()) > MOST_DEFERRED:
            return False
        self._held |= held
        self.tensors.append(tensor)
        self.copies += copies
        return True

    def probe(self) -> None:
        """Write the first value of every tensor onto itself.

        What makes a tensor refuse a write (memory that was taken from it, that is shared until the first
        write and cannot be copied, or that has named axes) does so now, when none has changed.

        Raises:
            AssignError: A tensor refuses.
        """
        for tensor in self.tensors:
            if tensor.numel():
                try:
                    first = tensor.detach().as_strided((1,), (1,))
                    first.copy_(first.clone())
                except RuntimeError as error:
                    raise AssignError(
                        f"a parameter of shape {tuple(tensor.shape)} and dtype {tensor.dtype} cannot be "
                        f"written, and no other was: {error}"
                    ) from error
        self._reserve = bytearray(_RESERVE)

    def finish(self) -> None:
        """Do all copies again, after something stopped them: one at a time, as often as needed.

        Raises:
            AssignError: It stops them every time.
        """
        self._reserve = None
        stopped: BaseException | None = None
        interrupt: BaseException | None = None
        for _ in range(_ATTEMPTS):
            try:
                with torch.inference_mode(False), torch.no_grad():
                    for memory, value in zip(*self.lists(), strict=True):
                        memory.copy_(value)
            except Exception as error:  # noqa: BLE001 - out of memory: what others free may be enough
                stopped = error
            except BaseException as error:  # noqa: BLE001 - an interrupt: the rest must still be written
                interrupt = error
            if self.done:
                break
        else:
            raise AssignError(
                f"{len(self.tensors)} tensors could not be written, and some of them have changed: load the "
                f"model's weights again ({stopped})"
            ) from stopped
        if interrupt is not None:
            raise interrupt

    def lists(self) -> tuple[list[Tensor], list[Tensor]]:
        """Memory and values, for a single call; the last of them sets :attr:`done`."""
        memory, values = zip(*self.copies, (self.done, torch.ones(1)), strict=True)
        return list(memory), list(values)

    def clear(self) -> None:
        """Forget all copies."""
        self.tensors, self.copies, self._held = [], [], {}


def watched() -> bool:
    """Whether modes see every call of torch: one may raise an error in the midst of it."""
    return bool(torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack())
