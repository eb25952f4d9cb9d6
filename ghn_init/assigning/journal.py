"""Undo journal: the old values of everything that a write touches, restored bit by bit on failure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Any

import torch
from torch import Tensor, nn

MEMORY_LIMIT = 16 * 2**20
"""Bytes of old values held in memory; what comes after goes to a temporary file."""

_ABSENT = object()


class Journal:
    """Old values in the order in which they were about to change.

    As a context manager it puts them all back if the block raises anything, an interrupt included.

    Args:
        memory_limit: Bytes kept in memory before old values are spilled to a temporary file.
    """

    def __init__(self, memory_limit: int = MEMORY_LIMIT) -> None:
        self._memory_left = memory_limit
        self._file: IO[bytes] | None = None
        self._undo: list[Callable[[], None]] = []
        self._saved: set[int] = set()
        self._alive: list[Tensor] = []

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is not None:
                self.rollback()
        finally:
            if self._file is not None:
                self._file.close()
            self._undo.clear()
            self._alive.clear()

    def save(self, tensor: Tensor) -> None:
        """Remember the value of ``tensor``, which is about to be overwritten in place."""
        if tensor.is_meta or id(tensor) in self._saved:
            return
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        restore = self._hold(raw) if raw.numel() <= self._memory_left else self._spill(raw)

        def undo() -> None:
            old = restore().view(tensor.dtype).view(tensor.shape)
            tensor.detach().copy_(old)

        self._undo.append(undo)
        self._saved.add(id(tensor))
        self._alive.append(tensor)

    def save_attribute(self, module: nn.Module, name: str) -> None:
        """Remember which object ``module.name`` is; it is about to be replaced by another."""
        holder = next(
            (held for held in (module._parameters, module._buffers, module.__dict__) if name in held), None
        )
        old: Any = _ABSENT if holder is None else holder[name]

        def undo() -> None:
            if old is _ABSENT:
                delattr(module, name)
            else:
                setattr(module, name, old)

        self._undo.append(undo)

    def mark(self) -> int:
        """Position to which :meth:`rollback` can return."""
        return len(self._undo)

    def rollback(self, mark: int = 0) -> None:
        """Restore everything saved since ``mark``, newest first.

        What goes wrong meanwhile is raised only after all that can be restored is restored; a step
        cut short by an interrupt is done again.
        """
        trouble: BaseException | None = None
        with torch.inference_mode(False), torch.no_grad():
            while len(self._undo) > mark:
                try:
                    self._undo[-1]()
                except KeyboardInterrupt as error:
                    trouble = error
                    continue
                except Exception as error:  # noqa: BLE001 - the other tensors must still be restored
                    trouble = error
                self._undo.pop()
        self._saved.clear()
        if trouble is not None:
            raise trouble

    def _hold(self, raw: Tensor) -> Callable[[], Tensor]:
        kept = raw.clone()
        self._memory_left -= kept.numel()
        return lambda: kept

    def _spill(self, raw: Tensor) -> Callable[[], Tensor]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="ghn_init-")  # noqa: SIM115 - closed by __exit__
        file, count = self._file, raw.numel()
        offset = file.seek(0, 2)
        file.write(raw.numpy().data)

        def read() -> Tensor:
            file.seek(offset)
            return torch.frombuffer(bytearray(file.read(count)), dtype=torch.uint8)

        return read
