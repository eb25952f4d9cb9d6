"""Statistics of the architecture spaces: nodes, parameters and primitives of each family.

    python benchmarks/space_statistics.py            # draws, builds and traces: a minute
    python benchmarks/space_statistics.py --report   # picture and table of docs/training.md

The first 100 architectures of each family of the stream that training with seed 0 draws from; the classifier
has 10 classes, images are 32x32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import torch
from marked import write
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from ghn_init import trace
from ghn_init.graph import PRIMITIVES
from ghn_init.graph.palette import COLOURS, text_colour
from ghn_init.logging import progress_bar
from ghn_init.training.families import FAMILIES
from ghn_init.training.spaces import Space

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "space_statistics.jsonl"
PAGE, PICTURE = ROOT / "docs" / "training.md", ROOT / "docs" / "images" / "spaces.png"
NUMBER = 100
Row = dict[str, Any]


def measure() -> None:
    """One row for each architecture."""
    drawn = [(family, index) for family in FAMILIES for index in range(NUMBER)]
    found: list[Row] = []
    for family, index in progress_bar(iterable=drawn, desc="architectures"):
        architecture = Space({family: 1.0}, 0)[index]
        with torch.device("meta"):
            model = architecture.build()
        graph = trace(model, torch.zeros(2, 3, 32, 32))
        found.append(
            {
                "family": family,
                "index": index,
                "nodes": len(graph),
                "edges": len(graph.edges),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "primitives": dict(Counter(node.primitive for node in graph.nodes)),
            }
        )
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in found))


def by_family() -> dict[str, list[Row]]:
    """Family → rows."""
    found: dict[str, list[Row]] = {family: [] for family in FAMILIES}
    for line in RESULTS.read_text().splitlines():
        row = json.loads(line)
        found[row["family"]].append(row)
    return found


def table(families: dict[str, list[Row]]) -> str:
    """Markdown: medians with the smallest and the largest, and which primitives never occur."""
    lines = ["| family | nodes | edges | parameters | primitives that never occur |", "|---" * 5 + "|"]
    for family, rows in families.items():
        cells = [_spread([row[key] for row in rows]) for key in ("nodes", "edges", "parameters")]
        absent = [f"`{name}`" for name in PRIMITIVES if not any(name in row["primitives"] for row in rows)]
        lines.append(f"| `{family}` | {' | '.join(cells)} | {', '.join(absent) or 'none'} |")
    return "\n".join(lines)


def _spread(values: list[int]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,} to {max(values):,})"


def picture(families: dict[str, list[Row]]) -> None:
    """Nodes and parameters of every network, and how often each primitive occurs."""
    names = list(families)
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 5.2), layout="constrained", sharey=True, width_ratios=(3, 3, 5.2)
    )
    for each, key, title in ((axes[0], "nodes", "nodes"), (axes[1], "parameters", "parameters")):
        _strips(each, [[row[key] for row in families[name]] for name in names])
        each.set(title=title, xscale="log")
    axes[0].set_xticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
    axes[1].set_xticks([10**power for power in range(3, 8)], ["1 k", "10 k", "100 k", "1 M", "10 M"])
    for each in axes[:2]:
        each.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    _primitives(axes[2], [families[name] for name in names])
    figure.savefig(PICTURE, dpi=130)


def _strips(axes: Axes, columns: list[list[int]]) -> None:
    for place, values in enumerate(columns):
        spread = [0.5 * ((13 * i) % len(values)) / len(values) - 0.25 for i in range(len(values))]
        axes.scatter(
            values, [place + each for each in spread], s=9, alpha=0.45, linewidths=0, color="#186bba"
        )
        axes.plot([statistics.median(values)] * 2, [place - 0.36, place + 0.36], color="black", linewidth=1.8)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _primitives(axes: Axes, columns: list[list[Row]]) -> None:
    """Stacked shares of the nodes by primitive."""
    left = [0.0] * len(columns)
    shown = sorted(PRIMITIVES, key=lambda name: -sum(_share(rows, name) for rows in columns))
    for name in shown:
        shares = [100 * _share(rows, name) for rows in columns]
        bars = axes.barh(
            range(len(columns)),
            shares,
            left=left,
            height=0.72,
            color=COLOURS[name],
            label=name,
            edgecolor="white",
            linewidth=0.5,
        )
        for bar, share in zip(bars, shares, strict=True):
            if share >= 1.3 * len(name):  # the name fits in
                middle = (bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2)
                colour = text_colour(COLOURS[name])
                axes.text(*middle, name, ha="center", va="center", fontsize=7.5, color=colour)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.set(title="mean share of the nodes (%)", xlim=(0, 100))
    axes.legend(frameon=False, bbox_to_anchor=(1.0, 0.5), loc="center left", fontsize=8.5)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _share(rows: list[Row], primitive: str) -> float:
    return statistics.fmean(row["primitives"].get(primitive, 0) / row["nodes"] for row in rows)


def main() -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", action="store_true", help="write picture and table")
    if not parser.parse_args().report:
        measure()
        return
    families = by_family()
    picture(families)
    write(PAGE, {"spaces": table(families)})


if __name__ == "__main__":
    main()
