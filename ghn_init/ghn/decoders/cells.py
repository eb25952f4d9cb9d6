"""How the outputs of a layer, of which inputs need different parts, are cut into large products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

Width = tuple[int, int]

_LANES = 16  # numbers that a processor multiplies at once
_MORE_COLUMNS = 7  # a product takes as long as one that has so many columns more would by its operations,
_UNALIGNED = 24  # and so many more where the last lanes are not full,
_MORE_ROWS = 10  # and so many rows: packing, and reading the weights
_CALL = 1 << 20  # multiplications in the time of what is not a product: calls, and copies of results


class Cell(NamedTuple):
    """A rectangle of outputs, and the inputs that need at least a part of it.

    Attributes:
        outs: First output channel, and the one after the last.
        ins: The same of input channels.
        inputs: Numbers of the inputs.
    """

    outs: tuple[int, int]
    ins: tuple[int, int]
    inputs: list[int]


def gathered(columns: int) -> bool:
    """Whether the weights of a cell are gathered for one product, rather than one for each output channel."""
    return columns < 2 * _LANES or columns % _LANES != 0


@lru_cache(maxsize=256)
def cells(widths: tuple[Width, ...], counts: tuple[int, ...], features: int) -> list[Cell]:
    """Cells in which every input has each of its wanted outputs once.

    An input takes the first ``(out, in)`` channels, so that narrow ones need what wide ones need too: one
    product for all of them reads the weights once and has enough rows to be fast. Where widths are near each
    other, computing a little that nobody needs is faster than more products. Inputs with less than a full
    lane (kernels of depthwise convolutions, first layers) keep to themselves: the others stay aligned.

    Args:
        widths: For each input the wanted ``(out, in)``.
        counts: Its number of rows.
        features: Length of a row.
    """
    call = _CALL / features
    narrow = [i for i, (_, into) in enumerate(widths) if into < _LANES]
    wide = [i for i, (_, into) in enumerate(widths) if into >= _LANES]
    return [cell for part in (narrow, wide) if part for cell in _cells_of(part, widths, counts, call)]


def _cells_of(
    part: Sequence[int], widths: Sequence[Width], counts: Sequence[int], call: float
) -> Iterator[Cell]:
    """Disjoint cells for some of the inputs."""
    loads = [widths[i][0] * counts[i] for i in part]
    more = _MORE_ROWS * max(widths[i][0] for i in part)
    for ins in _segments([widths[i][1] for i in part], loads, _columns, more, call):
        inside = [i for i in part if widths[i][1] > ins[0]]
        length = ins[1] - ins[0]
        most, loads_inside = [widths[i][0] for i in inside], [counts[i] * length for i in inside]
        for outs in _segments(most, loads_inside, None, _MORE_ROWS * length, call):
            yield Cell(outs, ins, [i for i in inside if widths[i][0] > outs[0]])


def _columns(length: int) -> int:
    """Columns that count for a product of so many."""
    aligned = length < _LANES or length % _LANES == 0
    return length + _MORE_COLUMNS + (0 if aligned else _UNALIGNED)


def _segments(
    ends: Sequence[int],
    loads: Sequence[float],
    columns: Callable[[int], int] | None,
    more: float,
    call: float,
) -> list[tuple[int, int]]:
    """Cut 0 to the largest end at some of the ends, or right behind, so that the sum of all costs is least.

    A segment costs ``columns(length) * (loads that end behind its start + more) + call``; without ``columns``
    its length counts, and cuts are at the ends only.
    """
    bounds = sorted({0, *ends, *(_aligned(ends) if columns else ())})
    lengths = columns or (lambda length: length)
    behind = [sum(load for end, load in zip(ends, loads, strict=True) if end > bound) for bound in bounds]
    least, best_start = [0.0], [0]
    for stop in range(1, len(bounds)):
        costs = [
            least[start] + lengths(bounds[stop] - bounds[start]) * (behind[start] + more) + call
            for start in range(stop)
        ]
        best_start.append(min(range(stop), key=costs.__getitem__))
        least.append(costs[best_start[-1]])
    found, stop = [], len(bounds) - 1
    while stop:
        found.append((bounds[best_start[stop]], bounds[stop]))
        stop = best_start[stop]
    return found[::-1]


def _aligned(ends: Sequence[int]) -> Iterator[int]:
    """The next full lane behind each end, not beyond the last one."""
    last = max(ends)
    return (min(last, -(-end // _LANES) * _LANES) for end in ends)
