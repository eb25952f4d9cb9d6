"""A digest of a graph that does not depend on the order of its nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any


def colours(labels: Sequence[Any], edges: Iterable[tuple[int, int]]) -> list[str]:
    """One colour per node from its label and those of all its ancestors and descendants.

    Args:
        labels: What tells nodes apart by themselves; compared by ``repr``.
        edges: Pairs ``(source, target)`` of an acyclic graph, in any order of the nodes.
    """
    count = len(labels)
    into: list[list[int]] = [[] for _ in range(count)]
    out: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        into[target].append(source)
        out[source].append(target)
    order = _topological(into, out)
    down = [""] * count
    for index in order:
        down[index] = _hash(labels[index], sorted(down[p] for p in into[index]))
    up = [""] * count
    for index in reversed(order):
        up[index] = _hash(down[index], sorted(up[s] for s in out[index]))
    return up


def digest(labels: Sequence[Any], edges: Iterable[tuple[int, int]]) -> str:
    """Digest of the whole graph: its coloured nodes and edges."""
    edges = list(edges)
    colour = colours(labels, edges)
    return _hash(sorted(colour), sorted((colour[s], colour[t]) for s, t in edges))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _topological(into: list[list[int]], out: list[list[int]]) -> list[int]:
    waiting = [len(sources) for sources in into]
    order = [index for index, left in enumerate(waiting) if not left]
    for index in order:
        for target in out[index]:
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    assert len(order) == len(into), "the graph has a cycle"
    return order
