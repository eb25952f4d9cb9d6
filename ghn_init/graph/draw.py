"""Static pictures of architecture graphs, with matplotlib."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from ghn_init.errors import GraphError
from ghn_init.extras import needed
from ghn_init.graph.arch_graph import ArchGraph, Node
from ghn_init.graph.layout import ROW_GAP, Layout, layered
from ghn_init.graph.palette import COLOURS, SYMBOLS, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

DETAILED = 130
"""Up to this many nodes each box names its operation, its shape and its module."""

LARGEST = 6000
"""More nodes than this make a picture that nobody can read."""

PLAIN: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.3}
"""Background of text that edges may pass under."""

_Point = tuple[float, float]


def plot(
    graph: ArchGraph,
    path: str | os.PathLike[str] | None = None,
    *,
    ax: Axes | None = None,
    columns: int | None = None,
    detailed: bool | None = None,
    title: str | None = None,
    dpi: int = 130,
) -> Axes:
    """Draw a graph: one box per node, left to right by depth and wrapped into rows like text.

    Args:
        graph: What to draw.
        path: File to write (``.png``, ``.svg``, ``.pdf``, by its ending). Without it and without ``ax`` a
            pyplot figure is made, which notebooks show.
        ax: Axes to draw into instead of a new figure.
        columns: Cells per row; chosen for a picture of about 3:2 if not given.
        detailed: Write operation, shape and module into each box; by default up to 130 nodes.
        title: Heading; the graph's name and size if not given.
        dpi: Dots per inch of a written bitmap.

    Returns:
        The axes.

    Raises:
        GraphError: The graph is too large for a picture, or the file's ending is not one matplotlib writes.
        MissingPackageError: matplotlib is not installed (``pip install 'ghn-init[plot]'``).
    """
    if len(graph) > LARGEST:
        raise GraphError(f"{len(graph)} nodes are too many for a picture (at most {LARGEST})")
    if detailed is None:
        detailed = len(graph) <= DETAILED
    cell = (1.12, 0.66) if detailed else (0.34, 0.36)
    layout = layered(graph, columns, cell[0] / cell[1])
    if ax is None:
        ax = _new_axes(layout, cell, on_screen=path is None)
    _draw_edges(ax, graph, layout)
    _draw_nodes(ax, graph, layout, detailed)
    _draw_blocks(ax, graph, layout, detailed)
    _finish(ax, graph, layout, title)
    if path is not None:
        figure: Any = ax.get_figure()
        try:
            figure.savefig(path, dpi=dpi, bbox_inches="tight")
        except ValueError as error:
            raise GraphError(f"cannot write the picture {os.fspath(path)!r}: {error}") from error
    return ax


def _new_axes(layout: Layout, cell: tuple[float, float], on_screen: bool) -> Axes:
    size = (max(5.0, (layout.columns + 1.2) * cell[0]), max(2.2, (layout.height + 1.0) * cell[1] + 1.1))
    with needed("plot", "a picture"):
        from matplotlib.figure import Figure
    if on_screen:
        from matplotlib import pyplot

        return pyplot.figure(figsize=size).add_subplot()
    return Figure(figsize=size).add_subplot()


def _draw_edges(ax: Axes, graph: ArchGraph, layout: Layout) -> None:
    from matplotlib.collections import PathCollection

    near, far = [], []
    for source, target in graph.edges:
        same_row = layout.row[source] == layout.row[target]
        direct = same_row and layout.column[target] - layout.column[source] == 1
        path = _same_row(layout, source, target) if same_row else _across_rows(layout, source, target)
        (near if direct else far).append(path)
    crowded = len(far) > 150
    style: dict[str, Any] = {"facecolors": "none", "zorder": 1}
    ax.add_collection(
        PathCollection(far, edgecolors="#5a6b7a", linewidths=0.8, alpha=0.35 if crowded else 0.8, **style)
    )
    ax.add_collection(PathCollection(near, edgecolors="#20262c", linewidths=1.1, **style))


def _same_row(layout: Layout, source: int, target: int) -> Path:
    """Straight to the next column; along a free lane; else an arc over what is between."""
    (x0, y0), (x1, y1) = layout.position(source), layout.position(target)
    if x1 - x0 <= 1:
        return _lines([(x0, y0), (x1, y1)])
    if layout.is_free(source, target):
        return _lines([(x0, y0), (x1 - 0.75, y0), (x1, y1)])
    from matplotlib.path import Path

    rise = min(0.62 + 0.13 * math.log2(x1 - x0), ROW_GAP + 0.2)
    lean = min(0.5, (x1 - x0) / 5)
    points = [(x0, y0), (x0 + lean, y0 - rise), (x1 - lean, y1 - rise), (x1, y1)]
    return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def _across_rows(layout: Layout, source: int, target: int) -> Path:
    """Out to the right of the rows between, down to the band above the target's row, back to the target."""
    (x0, y0), (x1, y1) = layout.position(source), layout.position(target)
    shift = 0.05 * (source % 4)
    band = layout.tops[layout.row[target]] - 0.62 - shift
    right = max(layout.ends[layout.row[source] : layout.row[target]]) - 0.42 + shift
    points: list[_Point] = [(x0, y0)]
    if x0 < layout.ends[layout.row[source]] - 1:  # nodes stand to the right: pass above them
        over = layout.tops[layout.row[source]] - 0.62 - shift
        points += [(x0 + 0.45, over), (right, over)]
    else:
        points += [(right, y0)]
    points += [(right, band), (x1 - 0.55 - shift, band), (x1 - 0.55 - shift, y1), (x1, y1)]
    return _lines(points)


def _lines(points: list[_Point]) -> Path:
    from matplotlib.path import Path

    return Path(points)


def _draw_nodes(ax: Axes, graph: ArchGraph, layout: Layout, detailed: bool) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import FancyBboxPatch

    width, height = (0.8, 0.56) if detailed else (0.74, 0.7)
    corners = f"round,pad=0,rounding_size={0.1 if detailed else 0.2}"
    boxes = []
    for index, node in enumerate(graph.nodes):
        x, y = layout.position(index)
        boxes.append(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle=corners))
        colour = text_colour(COLOURS[node.primitive])
        if detailed:
            _label(ax, x, y, node, colour)
        else:
            ax.text(x, y, SYMBOLS[node.primitive], size=5.5, color=colour, ha="center", va="center", zorder=4)
    fills = [COLOURS[node.primitive] for node in graph.nodes]
    ax.add_collection(
        PatchCollection(boxes, facecolors=fills, edgecolors="#20262c", linewidths=0.6, zorder=3)
    )


def _label(ax: Axes, x: float, y: float, node: Node, colour: str) -> None:
    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    if node.shape is None:
        ax.text(x, y, node.primitive, size=7.5, weight="bold", color=colour, **centred)
    else:
        shape = "×".join(map(str, node.shape)) if node.params else "×".join(map(str, node.shape[2:]))
        ax.text(x, y - 0.12, node.primitive, size=7.5, weight="bold", color=colour, **centred)
        ax.text(x, y + 0.13, shape, size=6.3, color=colour, **centred)
    where = node.place
    if where and node.primitive != "input":
        text = where if len(where) <= 18 else "…" + where[-17:].lstrip(".")
        ax.text(x, y + 0.39, text, size=5.6, color="#3d4a56", bbox=PLAIN, **centred)


def _draw_blocks(ax: Axes, graph: ArchGraph, layout: Layout, detailed: bool) -> None:
    """The name of each top block over the column where it begins (in crowded pictures only)."""
    if detailed:
        return
    taken: dict[int, float] = {}  # row -> right end of the last heading
    for index, name in block_starts(graph):
        x = layout.position(index)[0] - 0.37
        row = layout.row[index]
        if x < taken.get(row, -1.0):
            continue
        ax.text(x, layout.tops[row] - 0.39, name, size=5, color="#444444", va="bottom", zorder=5, bbox=PLAIN)
        taken[row] = x + 0.2 * len(name) + 0.4


def block_starts(graph: ArchGraph, most: int = 40) -> list[tuple[int, str]]:
    """First node and name of each run of nodes in one block, at the deepest level with at most ``most``."""
    best: list[tuple[int, str]] = []
    for level in range(1, 6):
        runs: list[tuple[int, str]] = []
        for index, node in enumerate(graph.nodes):
            name = ".".join(node.place.split(".")[:level])
            if name and (not runs or runs[-1][1] != name):
                runs.append((index, name))
        if len(runs) > most:
            break
        best = runs
    return best


def _finish(ax: Axes, graph: ArchGraph, layout: Layout, title: str | None) -> None:
    from matplotlib.patches import Patch

    counts = graph.type_counts
    handles = [
        Patch(facecolor=COLOURS[name], edgecolor="#20262c", label=f"{SYMBOLS[name]}  {name} ({count})")
        for name, count in counts.items()
    ]
    ax.set_xlim(-0.75, layout.columns - 0.2)
    ax.set_ylim(layout.height + 0.1, 0.0)
    ax.axis("off")
    if title is None:
        slots = len(graph.slots)
        title = f"{graph.name or 'graph'}: {len(graph)} nodes, {len(graph.edges)} edges, {slots} parameters"
    ax.set_title(title, fontsize=10, loc="left")
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=min(len(handles), 8),
        fontsize=7,
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
    )
