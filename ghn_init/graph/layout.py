"""A layered layout that reads like text: left to right by depth, wrapped into rows, branches in lanes.

Pure Python over :class:`ArchGraph`; every picture (static or interactive) can use it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ghn_init.graph.arch_graph import ArchGraph

ROW_GAP = 1.0
"""Height of the band above each row where long edges run, in lanes."""


@dataclass(frozen=True)
class Layout:
    """Where each node stands, in cells; y grows downwards.

    Attributes:
        ends: For each row how many cells it has.
        row: For each node its row.
        column: For each node its cell within the row.
        lane: For each node its lane within the row; 0 is the trunk.
        tops: For each row the y of its lane 0.
        height: Height of the whole, in cells.
    """

    ends: list[int]
    row: list[int]
    column: list[int]
    lane: list[int]
    tops: list[float]
    height: float

    @property
    def columns(self) -> int:
        """Cells of the longest row."""
        return max(self.ends)

    def position(self, index: int) -> tuple[float, float]:
        """(x, y) of a node's centre, in cells."""
        return float(self.column[index]), self.tops[self.row[index]] + self.lane[index]

    def is_free(self, source: int, target: int) -> bool:
        """Whether no node stands between the two on the source's lane (both in one row)."""
        return not any(
            (self.row[source], column, self.lane[source]) in self._occupied
            for column in range(self.column[source] + 1, self.column[target])
        )

    @cached_property
    def _occupied(self) -> frozenset[tuple[int, int, int]]:
        return frozenset(zip(self.row, self.column, self.lane, strict=True))


def layered(graph: ArchGraph, columns: int | None = None, cell_aspect: float = 1.8) -> Layout:
    """Lay a graph out in rows.

    Args:
        graph: The graph.
        columns: Cells per row; chosen so that the picture is about 3:2 if not given.
        cell_aspect: Width of a cell over its height.

    Returns:
        The layout; nodes of one depth share a column, and no two nodes share a cell.
    """
    depth = depths(graph)
    lane = _lanes(graph, depth)
    count = max(depth) + 1
    used = [0] * count
    for d, k in zip(depth, lane, strict=True):
        used[d] = max(used[d], k + 1)
    crossing = _crossing(graph, depth, count)
    if columns is None:
        columns = _best_columns(used, crossing, cell_aspect)
    starts = _row_starts(crossing, columns)
    tops, height = _tops(used, starts)
    row = [bisect_right(starts, d) - 1 for d in depth]
    column = [d - starts[r] for d, r in zip(depth, row, strict=True)]
    ends = [end - start for start, end in zip(starts, [*starts[1:], count], strict=True)]
    return Layout(ends, row, column, lane, tops, height)


def depths(graph: ArchGraph) -> list[int]:
    """Longest path from the input; a node without predecessors stands right before its first reader."""
    before, after = graph.predecessors(), graph.successors()
    depth = [0] * len(graph)
    for node, sources in enumerate(before):
        depth[node] = max((depth[s] + 1 for s in sources), default=0)
    for node in range(len(graph) - 1, 0, -1):
        if not before[node] and after[node]:
            depth[node] = max(1, min(depth[t] for t in after[node]) - 1)
    # a source's readers are never nearer to the input than it is, so longest paths still hold
    for node, sources in enumerate(before):
        depth[node] = max((depth[s] + 1 for s in sources), default=depth[node])
    return depth


def _lanes(graph: ArchGraph, depth: list[int]) -> list[int]:
    before, after = graph.predecessors(), graph.successors()
    reach = [0] * len(graph)  # longest path to an output: the trunk is what goes on longest
    for node in range(len(graph) - 1, -1, -1):
        reach[node] = max((reach[t] + 1 for t in after[node]), default=0)
    by_depth: dict[int, list[int]] = {}
    for node, d in enumerate(depth):
        by_depth.setdefault(d, []).append(node)
    lane = [0] * len(graph)
    held: dict[int, set[int]] = {}  # depth -> lanes kept clear for an edge that passes through
    for d in sorted(by_depth):
        taken = held.pop(d, set())
        for node in sorted(by_depth[d], key=lambda n: (not before[n], -reach[n], n)):
            wanted = _wanted_lane(before[node], depth, reach, lane) if before[node] else min(node, 1)
            lane[node] = min(
                (k for k in range(len(taken) + wanted + 2) if k not in taken), key=lambda k: abs(k - wanted)
            )
            taken.add(lane[node])
            first = min((depth[t] for t in after[node]), default=d)
            if lane[node]:
                for passed in range(d + 1, first):
                    held.setdefault(passed, set()).add(lane[node])
    return lane


def _wanted_lane(sources: list[int], depth: list[int], reach: list[int], lane: list[int]) -> int:
    return lane[max(sources, key=lambda s: (depth[s], -lane[s], reach[s]))]


def _crossing(graph: ArchGraph, depth: list[int], count: int) -> list[int]:
    """How many values are still needed across a line break right before each depth."""
    change = [0] * (count + 1)
    for source, targets in enumerate(graph.successors()):
        if targets:
            change[depth[source] + 1] += 1
            change[max(depth[target] for target in targets) + 1] -= 1
    return list(accumulate(change[:count]))


def _row_starts(crossing: list[int], columns: int) -> list[int]:
    """Depths at which rows begin: where few values cross, in the last third of each row."""
    starts, count = [0], len(crossing)
    while count - starts[-1] > columns + 2:  # no row of one or two cells at the end
        first = starts[-1]
        allowed = range(first + columns, first + max(1, columns * 2 // 3) - 1, -1)
        starts.append(min(allowed, key=lambda d: crossing[d]))
    return starts


def _tops(used: list[int], starts: list[int]) -> tuple[list[float], float]:
    tops, y = [], 0.0
    for start, end in zip(starts, [*starts[1:], len(used)], strict=True):
        y += ROW_GAP
        tops.append(y)
        y += max(used[start:end])
    return tops, y


def _best_columns(used: list[int], crossing: list[int], cell_aspect: float, wanted: float = 1.5) -> int:
    def miss(columns: int) -> float:
        ratio = columns * cell_aspect / _tops(used, _row_starts(crossing, columns))[1]
        return max(ratio / wanted, wanted / ratio)

    return min(range(min(6, len(used)), min(len(used), 80) + 1), key=miss)
