"""Decoded tensors to the targets' shapes: slicing, tiling, class tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ghn_init.ghn.plan import Target

TOKEN_STD = 0.02
_MOST_TOKENS = 16


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


def fit(decoded: Tensor, target: Target, seed: int) -> Tensor:
    """One decoded weight in its target's shape.

    Args:
        decoded: ``(out, in, kh, kw)``; for vectors ``(size,)``.
        target: What it is for.
        seed: Of the rows that are drawn for class tokens.
    """
    if decoded.dim() == 1:
        return tile(decoded, (target.view[0],)).reshape(target.shape)
    if target.kind == "positions":
        return _positions(decoded, target.shape, seed)
    full = tile(decoded, (*target.view[:2], *decoded.shape[2:]))
    if target.kind == "stack":
        return full.flatten(2)[:, :, : target.shape[0]].permute(2, 0, 1)
    return full.reshape(target.shape)


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
    return tile(rows, shape)
