"""Several architecture graphs side by side, with the structure that encoders read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from ghn_init.graph.arch_graph import ArchGraph
from ghn_init.graph.paths import MAX_DISTANCE, shortest_distances

_ROWS = 512  # of a table of pairs that are looked at together
_KEEP_UP_TO = 2048  # nodes; the distances of larger graphs are not kept beside the graph

_structures: WeakKeyDictionary[ArchGraph, dict[int, GraphStructure]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class GraphStructure:
    """What encoders read of one graph's edges.

    Attributes:
        distances: ``(N, N)`` uint8 shortest path lengths up to ``cutoff``; row = source; 0 = no path.
        cutoff: Longest path length that counts.
        edges: ``(E, 2)`` int64 source and target of every edge.
    """

    distances: np.ndarray
    cutoff: int
    edges: np.ndarray

    def __len__(self) -> int:
        return len(self.distances)

    @cached_property
    def in_degrees(self) -> np.ndarray:
        """``(N,)`` int64 number of edges that end in each node."""
        return np.bincount(self.edges[:, 1], minlength=len(self))

    @cached_property
    def out_degrees(self) -> np.ndarray:
        """``(N,)`` int64 number of edges that start from each node."""
        return np.bincount(self.edges[:, 0], minlength=len(self))

    @cached_property
    def pair_codes(self) -> np.ndarray:
        """``(N, N)`` uint8: 0 no path; d a path from row to column; cutoff + d one from column to row."""
        codes = self.distances.copy()
        for start in range(0, len(self), _ROWS):
            stop = start + _ROWS
            backward = self.distances[:stop, start:stop].T  # no path leads to a lower index
            codes[start:stop, :stop] += np.where(backward > 0, backward + np.uint8(self.cutoff), np.uint8(0))
        return codes

    @cached_property
    def forward_levels(self) -> np.ndarray:
        """``(N,)`` int64 longest number of edges from a source to each node."""
        levels = [0] * len(self)
        for source, target in sorted(self.edges.tolist(), key=lambda edge: edge[1]):
            levels[target] = max(levels[target], levels[source] + 1)
        return np.array(levels, dtype=np.int64)

    @cached_property
    def backward_levels(self) -> np.ndarray:
        """``(N,)`` int64 longest number of edges from each node to a sink."""
        levels = [0] * len(self)
        for source, target in sorted(self.edges.tolist(), key=lambda edge: -edge[0]):
            levels[source] = max(levels[source], levels[target] + 1)
        return np.array(levels, dtype=np.int64)


def graph_structure(graph: ArchGraph, cutoff: int = MAX_DISTANCE) -> GraphStructure:
    """The structure of one graph, kept as long as the graph lives.

    Args:
        graph: N nodes.
        cutoff: Longest path length that counts, at most 127; 1 = edges alone.
    """
    kept = _structures.setdefault(graph, {})
    if cutoff in kept:
        return kept[cutoff]
    edges = np.array(graph.edges, dtype=np.int64).reshape(-1, 2)
    structure = GraphStructure(shortest_distances(len(graph), graph.edges, cutoff), cutoff, edges)
    if len(graph) <= _KEEP_UP_TO:
        kept[cutoff] = structure
    return structure


class GraphBatch:
    """Graphs whose nodes are numbered one after the other.

    Attributes:
        graphs: The graphs.
        structures: Their structures.
        offsets: Number of the first node of each graph.
    """

    def __init__(self, graphs: Sequence[ArchGraph], cutoff: int = MAX_DISTANCE) -> None:
        self.graphs = tuple(graphs)
        self.structures = tuple(graph_structure(graph, cutoff) for graph in graphs)
        self.offsets = tuple(int(n) for n in np.cumsum([0, *(len(graph) for graph in graphs)])[:-1])

    def __len__(self) -> int:
        """Number of nodes of all graphs."""
        return sum(len(graph) for graph in self.graphs)

    def joined(self, name: str) -> np.ndarray:
        """One of the ``(N,)`` arrays of the structures, over all nodes of the batch."""
        return np.concatenate([getattr(structure, name) for structure in self.structures])

    @cached_property
    def type_ids(self) -> np.ndarray:
        """``(N,)`` int64 operation types over all nodes of the batch."""
        return np.array([node.type_id for graph in self.graphs for node in graph.nodes], dtype=np.int64)

    @cached_property
    def distances(self) -> np.ndarray:
        """``(N, N)`` uint8 distances over all nodes of the batch; 0 between graphs."""
        if len(self.graphs) == 1:
            return self.structures[0].distances
        joined = np.zeros((len(self), len(self)), dtype=np.uint8)
        for offset, structure in zip(self.offsets, self.structures, strict=True):
            span = slice(offset, offset + len(structure))
            joined[span, span] = structure.distances
        return joined
