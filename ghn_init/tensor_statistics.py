"""Statistics of a model's parameters before and after a write: moments, extremes, a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ghn_init.parallel import whole_value

BINS = 32
"""Bins of a histogram."""

_CHUNK = 2**18
"""Elements looked at together: all the memory that measuring takes beside the tensor."""


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """What a tensor's values are like.

    Attributes:
        count: Number of finite values, which all else describes.
        mean: Their mean.
        std: Their standard deviation (of the population).
        norm: Their Euclidean norm.
        minimum: The least.
        maximum: The largest.
        histogram: Counts in bins of equal width from ``minimum`` to ``maximum``.
        not_finite: Number of values that are NaN or infinite.
    """

    count: int
    mean: float
    std: float
    norm: float
    minimum: float
    maximum: float
    histogram: tuple[int, ...]
    not_finite: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` is its inverse."""
        return {**asdict(self), "histogram": list(self.histogram)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TensorStatistics:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "histogram": tuple(data["histogram"])})


class Change(NamedTuple):
    """A parameter before and after; ``None`` where its values are not in this process's memory."""

    before: TensorStatistics | None
    after: TensorStatistics | None


@torch.no_grad()
def measure(tensor: Tensor) -> TensorStatistics | None:
    """Statistics of a tensor, a piece at a time; nothing of its size is allocated.

    Returns:
        ``None`` for a tensor without real values here: on the meta device, empty, sharded over processes,
        complex, or of a type that cannot be turned into floats.
    """
    whole = whole_value(tensor.detach())
    if whole is None or whole.is_meta or whole.numel() == 0 or whole.is_complex():
        return None
    try:
        return _measure(whole)
    except (RuntimeError, NotImplementedError, TypeError):  # packed and quantised types know few operations
        return None


def measure_parameters(model: nn.Module) -> dict[str, TensorStatistics | None]:
    """Statistics of each parameter, by name; a tied one under its first name."""
    return {name: measure(parameter) for name, parameter in model.named_parameters()}


def changes(
    before: Mapping[str, TensorStatistics | None], after: Mapping[str, TensorStatistics | None]
) -> dict[str, Change]:
    """What was measured twice, put together by name."""
    return {name: Change(before.get(name), now) for name, now in after.items()}


def changes_to_dict(found: Mapping[str, Change]) -> dict[str, list[dict[str, Any] | None]]:
    """Plain JSON-able form; :func:`changes_from_dict` is its inverse."""
    return {name: [None if each is None else each.to_dict() for each in pair] for name, pair in found.items()}


def changes_from_dict(data: Mapping[str, Any]) -> dict[str, Change]:
    """Inverse of :func:`changes_to_dict`."""
    read = TensorStatistics.from_dict
    return {name: Change(*(each and read(each) for each in pair)) for name, pair in data.items()}


def _measure(tensor: Tensor) -> TensorStatistics | None:
    count, mean, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for piece in _finite_pieces(tensor):
        new, own = piece.numel(), float(piece.mean(dtype=torch.float64))
        spread = float((piece - own).square_().sum(dtype=torch.float64))
        # Two groups' moments put together (Chan, Golub and LeVeque, 1983).
        gap, both = own - mean, count + new
        mean += gap * new / both
        squares += spread + gap * gap * count * new / both
        count = both
        least, largest = torch.aminmax(piece)
        low, high = min(low, float(least)), max(high, float(largest))
    if not count:
        return TensorStatistics(0, 0.0, 0.0, 0.0, 0.0, 0.0, (0,) * BINS, tensor.numel())
    return TensorStatistics(
        *(count, mean, math.sqrt(squares / count), math.sqrt(squares + count * mean * mean), low, high),
        histogram=_histogram(tensor, low, high, count),
        not_finite=tensor.numel() - count,
    )


def _histogram(tensor: Tensor, low: float, high: float, count: int) -> tuple[int, ...]:
    if low == high or not math.isfinite(high - low):
        return tuple(count if index == BINS // 2 else 0 for index in range(BINS))
    bins = torch.zeros(BINS, dtype=torch.float64)
    for piece in _finite_pieces(tensor):
        bins += torch.histc(piece, BINS, low, high).cpu()
    return tuple(int(each) for each in bins.tolist())


def _finite_pieces(tensor: Tensor) -> Iterator[Tensor]:
    """The finite values as float32 (float64 stays), in flat pieces."""
    for piece in _pieces(tensor):
        values = piece.to(torch.float64 if piece.dtype == torch.float64 else torch.float32)
        finite = values.isfinite()
        if not bool(finite.all()):
            values = values[finite]
        if values.numel():
            yield values


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    if tensor.numel() <= _CHUNK:
        yield tensor.reshape(-1)
    elif tensor.is_contiguous():
        yield from tensor.view(-1).split(_CHUNK)
    else:
        axis = max(range(tensor.dim()), key=tensor.size)
        rows = max(1, _CHUNK * tensor.size(axis) // tensor.numel())
        for part in tensor.split(rows, axis):
            yield from _pieces(part) if part.numel() < tensor.numel() else (part.reshape(-1),)
