"""Undo journal: the old values of everything that a write touches, restored bit by bit on failure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import torch
from torch import Tensor, nn

from ghn_init.assigning.deferred import Deferred, Pending, watched
from ghn_init.errors import AssignError

MEMORY_LIMIT = 16 * 2**20
"""Bytes of old values held in memory; what comes after goes to a temporary file."""

_PIECE = 2**20
"""Bytes that are put back at a time."""

_ABSENT = object()
_PATIENCE = 100
"""Interrupts after which a single step of the undo is given up."""


class Journal:
    """Old values in the order in which they were about to change.

    As a context manager it puts them all back if the block raises anything, an interrupt included. An
    interrupt can also arrive right when a block ends, before the journal has begun to put anything back: so
    a journal may be entered several times (``with Journal() as journal, journal:``), and each block that is
    left on an exception does what the one inside it could not. Leaving the outermost one keeps what is new.

    Args:
        memory_limit: Bytes kept in memory before old values are spilled to a temporary file.

    Attributes:
        defers: Whether :meth:`defer` may put writes off. They are done when a block is left without an
            exception; until then the tensors hold their old values, of which none is kept: what stops the
            writes in their midst does not stop them for good, and an interrupt counts as arriving after them.
    """

    def __init__(self, memory_limit: int = MEMORY_LIMIT) -> None:
        self.defers = True
        self._deferred = Deferred()
        self._memory_left = memory_limit
        self._file: IO[bytes] | None = None
        self._page = torch.empty(0, dtype=torch.uint8)
        self._written = 0
        self._undo: list[Callable[[], None]] = []
        self._saved: set[int] = set()
        self._alive: list[Tensor] = []
        self._depth = 0

    def __enter__(self) -> Journal:
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._deferred.begun and not self._deferred.done:
            self._deferred.finish()
        if kind is None and self._deferred.tensors and not self._deferred.done:
            self._write_deferred()
        if kind is not None and not self._deferred.done:
            self.rollback()
        elif kind is None and self._depth > 1:
            self._depth -= 1
            return
        # From here on the new values stay, whatever arrives: nothing of another module runs.
        self._deferred.tensors.clear()
        self._deferred.copies.clear()
        self._undo.clear()
        self._saved.clear()
        self._alive.clear()
        if self._file is not None:
            self._file.close()

    def save(self, tensor: Tensor) -> None:
        """Remember the value of ``tensor``, which is about to be overwritten in place.

        Raises:
            AssignError: There is no room for it.
        """
        if tensor.is_meta or id(tensor) in self._saved:
            return
        raw = _raw(tensor)
        read = self._hold(raw) if raw.numel() <= self._memory_left else self._spill(raw)

        def undo() -> None:
            start = 0
            for piece in _pieces(tensor.detach()):
                old = read(start, piece.numel() * piece.element_size())
                start += len(old)
                try:
                    piece.copy_(old.view(piece.dtype).view(piece.shape))
                except Exception:
                    # What refuses the undo may have refused the write too.
                    if not torch.equal(_raw(piece), old):
                        raise

        self._alive.append(tensor)
        self._undo.append(undo)
        self._saved.add(id(tensor))

    def defer(self, tensor: Tensor, value: Pending) -> bool:
        """Have ``value`` written into ``tensor`` when the block ends.

        Returns:
            Whether that will be done; else the caller writes it.
        """
        return self.defers and self._deferred.add(tensor, value)

    def _write_deferred(self) -> None:
        """Write everything that was put off.

        Raises:
            AssignError: A tensor cannot be written; none has changed.
        """
        deferred = self._deferred
        with torch.inference_mode(False), torch.no_grad():
            deferred.probe()
            memory, values = deferred.lists()
            if watched():
                # A mode may stop the call at any of its copies, and do so each time.
                for tensor in deferred.tensors:
                    self.save(tensor)
            try:
                # From here on there is one way, forward, unless old values were kept.
                deferred.begun = not watched()
                # A single call, during which Python handles no interrupt.
                torch._foreach_copy_(memory, values)  # pyright: ignore[reportPrivateImportUsage]
            except Exception as error:
                if deferred.begun:
                    deferred.finish()
                elif isinstance(error, RuntimeError):
                    raise AssignError(f"{len(memory)} writes failed, and were put back: {error}") from error
                else:
                    raise

    def save_attribute(self, module: nn.Module, name: str) -> None:
        """Remember which object ``module.name`` is; it is about to be replaced by another."""
        places: tuple[Any, ...] = (module._parameters, module._buffers, module.__dict__)
        before = [place.get(name, _ABSENT) for place in places]

        def undo() -> None:
            for place, old in zip(places, before, strict=True):
                if old is _ABSENT:
                    place.pop(name, None)
                else:
                    place[name] = old

        self._undo.append(undo)

    def save_step(self, undo: Callable[[], object]) -> None:
        """Remember how a step is taken back; ``undo`` may be called more than once."""
        self._undo.append(undo)  # type: ignore[arg-type]

    def mark(self) -> int:
        """Position to which :meth:`rollback` can return."""
        return len(self._undo)

    def rollback(self, mark: int | None = None) -> None:
        """Restore everything saved since ``mark``, newest first; without it all, and what waits.

        What goes wrong meanwhile is raised only after all that can be restored is restored; a step
        cut short by an interrupt is done again.

        Raises:
            AssignError: Something could not be restored.
        """
        # Of what one target saves nothing waits: a target that refuses takes no other's value with it.
        if mark is None:
            self._deferred.clear()
        interrupt: BaseException | None = None
        failures: list[BaseException] = []
        patience = _PATIENCE
        while True:
            try:
                self._put_back(mark or 0, failures)
                break
            except BaseException as error:  # noqa: BLE001 - an interrupt: the rest must still be restored
                interrupt, patience = error, patience - 1
                if not patience:
                    failures.append(error)
                    self._undo.pop()
                    patience = _PATIENCE
        if failures:
            raise AssignError(
                f"the write failed, and {len(failures)} of the old values could not be put back, so the "
                f"model is changed: load its weights again. The first: {failures[0]}"
            ) from failures[0]
        if interrupt is not None:
            raise interrupt

    def _put_back(self, mark: int, failures: list[BaseException]) -> None:
        self._saved.clear()
        with torch.inference_mode(False), torch.no_grad():
            while len(self._undo) > mark:
                try:
                    self._undo[-1]()
                except Exception as error:  # noqa: BLE001 - the other tensors must still be restored
                    failures.append(error)
                self._undo.pop()

    def _hold(self, raw: Tensor) -> Callable[[int, int], Tensor]:
        kept = raw.clone()
        self._memory_left -= kept.numel()
        return lambda start, count: kept[start : start + count]

    def _spill(self, raw: Tensor) -> Callable[[int, int], Tensor]:
        """Write to the file, unbuffered: what was written is there however the next write ends."""
        offset, count = self._written, raw.numel()
        try:
            if self._file is None:
                # Made now: when the old values are read, there may be no memory left.
                self._page = torch.empty(_PIECE, dtype=torch.uint8)
                self._file = tempfile.TemporaryFile(prefix="ghn_init-", buffering=0)  # noqa: SIM115 - __exit__
            file = self._file
            file.seek(offset)
            left = raw.numpy().data
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise AssignError(
                f"there is no room for {count} bytes of old values in {tempfile.gettempdir()}, from which a "
                f"failed write is undone ({error}): free some, or let TMPDIR name another folder"
            ) from error
        self._written = offset + count

        def read(start: int, count: int) -> Tensor:
            fits = count <= len(self._page)
            old = self._page[:count] if fits else torch.empty(count, dtype=torch.uint8)
            left = old.numpy().data
            file.seek(offset + start)
            while left:
                got = file.readinto(left)  # type: ignore[attr-defined]
                if not got:
                    raise OSError(f"the file of old values ends before byte {offset + start + count}")
                left = left[got:]
            return old

        return read


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    """Views of a tensor which are small, where its memory allows it, and have its elements in order."""
    size = max(1, _PIECE // tensor.element_size())
    if tensor.is_contiguous():
        return tensor.view(-1).split(size)
    return tensor.split(max(1, size * len(tensor) // tensor.numel()))


def _raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, in host memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
