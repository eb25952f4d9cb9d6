"""Shortest directed paths in a topologically ordered graph, one vectorised row operation per edge."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MAX_DISTANCE = 50
"""Cutoff of virtual edges in GHN-2 and GHN-3 (Knyazev et al., 2021, section 4.1)."""


def shortest_distances(
    count: int, edges: Iterable[tuple[int, int]], cutoff: int = MAX_DISTANCE
) -> np.ndarray:
    """Shortest path lengths between all pairs of nodes.

    Because every edge runs from a lower to a higher index, the distances *to* a node follow from those
    to its predecessors: O(edges x nodes) byte operations.

    Args:
        count: Number of nodes N.
        edges: Pairs ``(source, target)`` with ``source < target``.
        cutoff: Longest length kept; at most 255.

    Returns:
        ``(N, N)`` uint8 array; row = source; 0 where there is no path of at most ``cutoff`` edges.
    """
    if not 0 < cutoff <= 255:
        raise ValueError(f"cutoff must be in 1..255, got {cutoff}")
    far = np.uint16(cutoff + 1)
    to_node = np.full((count, count), far, dtype=np.uint16)  # row = target, column = source
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        row = to_node[target]
        np.minimum(row[:target], to_node[source, :target] + np.uint16(1), out=row[:target])
        row[source] = 1
    to_node[to_node > cutoff] = 0
    return np.ascontiguousarray(to_node.T.astype(np.uint8))
