"""Shortest directed paths in a topologically ordered graph, one vectorised row operation per edge."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MAX_DISTANCE = 50
"""Cutoff of virtual edges in GHN-2 and GHN-3 (Knyazev et al., 2021, section 4.1)."""

_ROWS = 256  # that are looked at together


def shortest_distances(
    count: int, edges: Iterable[tuple[int, int]], cutoff: int = MAX_DISTANCE
) -> np.ndarray:
    """Shortest path lengths between all pairs of nodes.

    Because every edge runs from a lower to a higher index, the distances *from* a node follow from those
    from its successors: O(edges x nodes) byte operations, and no memory beside the result.

    Args:
        count: Number of nodes N.
        edges: Pairs ``(source, target)`` with ``source < target``.
        cutoff: Longest length kept; at most 255.

    Returns:
        ``(N, N)`` uint8 array; row = source; 0 where there is no path of at most ``cutoff`` edges.
    """
    if not 0 < cutoff <= 255:
        raise ValueError(f"cutoff must be in 1..255, got {cutoff}")
    dtype = np.uint8 if cutoff < 254 else np.uint16
    found = np.full((count, count), cutoff + 1, dtype=dtype)
    for source, target in sorted(edges, key=lambda edge: -edge[0]):
        row = found[source]
        np.minimum(row[target:], found[target, target:] + dtype(1), out=row[target:])
        row[target] = 1
    for start in range(0, count, _ROWS):
        rows = found[start : start + _ROWS]
        rows[rows > cutoff] = 0
    return found.astype(np.uint8, copy=False)
