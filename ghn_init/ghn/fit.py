"""Decoded tensors to the targets' shapes: slicing, tiling, class tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ghn_init.ghn.plan import Target

TOKEN_STD = 0.02
_MOST_TOKENS = 16

Copies = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False, slots=True)
class Fitted:
    """A predicted tensor that is not spelled out yet: a decoded block, repeated until it has the shape.

    Attributes:
        block: What is repeated along each axis.
        tiled: Shape that it is repeated to; nowhere smaller than the block.
        shape: The tensor's shape.
        stacked: Whether the last axis of ``tiled`` is the first one of ``shape``; else the two have their
            elements in the same order.
        may_wait: Whether no other weights are decoded after it, so that keeping it needs no more memory.
    """

    block: Tensor
    tiled: tuple[int, ...]
    shape: tuple[int, ...]
    stacked: bool = False
    may_wait: bool = True

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def tensor(self) -> Tensor:
        """The tensor, differentiable in the block; a view of it where nothing is repeated."""
        full = tile(self.block, self.tiled)
        return full.permute(2, 0, 1) if self.stacked else full.reshape(self.shape)

    def copies_to(self, memory: Tensor) -> Copies | None:
        """Pairs of a part of ``memory`` and what to copy into it, which together write the tensor there.

        Args:
            memory: Of the tensor's shape; nothing is written.

        Returns:
            ``None`` if the memory's strides do not allow it.
        """
        try:
            seen = memory.permute(1, 2, 0) if self.stacked else memory.view(self.tiled)
        except RuntimeError:
            return None
        # What is read several times is read fastest in order.
        block = self.block.contiguous() if self.block.numel() < self.numel else self.block
        return _copies(seen, block, 0)


def _copies(memory: Tensor, block: Tensor, axis: int) -> Copies:
    """Copies of a block until it fills the memory along ``axis`` and those after it."""
    if axis == memory.dim():
        return [(memory, block.expand(memory.shape))]
    have, want = block.shape[axis], memory.shape[axis]
    if have == want:
        return _copies(memory, block, axis + 1)
    times, rest = divmod(want, have)
    whole = memory.narrow(axis, 0, times * have).unflatten(axis, (times, have))
    found = _copies(whole, block.unsqueeze(axis), axis + 2)
    if rest:
        last = memory.narrow(axis, times * have, rest)
        found += _copies(last, block.narrow(axis, 0, rest), axis + 1)
    return found


def tile(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Cut or repeat whole blocks of ``x`` along each axis until it has the shape."""
    for axis in reversed(range(len(shape))):
        have, want = x.shape[axis], shape[axis]
        if have > want:
            x = x.narrow(axis, 0, want)
        elif have < want:
            times, rest = divmod(want, have)
            x = torch.cat([x] * times + ([x.narrow(axis, 0, rest)] if rest else []), dim=axis)
    return x


def fit(decoded: Tensor, target: Target, seed: int, *, may_wait: bool = True) -> Fitted:
    """One decoded weight for its target.

    Args:
        decoded: ``(out, in, kh, kw)``; for vectors ``(size,)``.
        target: What it is for.
        seed: Of the rows that are drawn for class tokens.
        may_wait: See :class:`Fitted`.
    """
    shape = target.shape
    if decoded.dim() == 1:
        block, tiled = decoded, (target.view[0],)
    elif target.kind == "positions":
        block, tiled = _positions(decoded, shape, seed), shape
    elif target.kind == "stack":
        block, tiled = decoded.flatten(2)[:, :, : shape[0]], (*target.view[:2], shape[0])
    else:
        block, tiled = decoded, (*target.view[:2], *decoded.shape[2:])
    for axis, want in enumerate(tiled):
        if block.shape[axis] > want:
            block = block.narrow(axis, 0, want)
    if target.centred:
        block = block - block.mean((1, 2, 3), keepdim=True)
    return Fitted(block, tiled, shape, target.kind == "stack", may_wait)


def own_memory(x: Tensor) -> Tensor:
    """``x`` as a contiguous tensor that shares its memory with no other."""
    whole = x.is_contiguous() and x.untyped_storage().nbytes() == x.numel() * x.element_size()
    return x if whole else x.clone(memory_format=torch.contiguous_format)


def _positions(decoded: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """``(1, L, C)`` from ``(1, c, s, s)``: a row for each place of a square grid, in front the class tokens.

    Class tokens have no place, so the GHN says nothing of them: their rows are drawn from N(0, 0.02) with a
    generator of their own, at the decoded width, and tiled like the others. More than 16 rows too many are no
    tokens but a grid that is not square; then the decoded rows are repeated.
    """
    rows = decoded.flatten(2).transpose(1, 2)
    tokens = shape[1] - rows.shape[1]
    if 0 < tokens <= _MOST_TOKENS:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(1, tokens, rows.shape[2], generator=generator).mul_(TOKEN_STD)
        rows = torch.cat([drawn.to(rows), rows], dim=1)
    return rows
