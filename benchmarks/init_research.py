"""Initialisations on development networks, which no test set has: accuracy after 50 updates.

    python benchmarks/init_research.py --inits kaiming ghn --lrs 0.01 0.1   # adds rows that are missing
    python benchmarks/init_research.py --report                             # Markdown of the rows

The first 10,000 training images are trained on; accuracy is that on 1,000 other training images.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from ghn_init.default import resolve_ghn
from ghn_init.training.comparison import Comparison, Row, compare, development, read_rows
from ghn_init.training.data import fashion_mnist
from ghn_init.training.summary import Interval

RESULTS = Path(__file__).resolve().parent / "results" / "init_research.jsonl"
CHEAP = {
    "cells": (20, 14, 23, 7, 11, 0, 8, 16, 13, 5), "resnet": (1, 4), "mobile": (3,), "regnet": (2,),
    "vit": (1, 0), "convnext": (1,), "mixer": (3,),
}  # fmt: skip
"""Family → places of networks with cheap training steps, chosen by their cost alone."""


def report(rows: list[Row]) -> str:
    """Mean accuracies, and the GHN against the better reference of each network."""
    lines = ["| networks | initialisation | learning rate | number | accuracy (%) |", "|---|---|---|---|---|"]
    for title, cells in (("cells", True), ("timm families", False)):
        part = [row for row in rows if row["net"].startswith("cells") == cells]
        best: dict[str, dict[str, float]] = {}
        for init in ("kaiming", "default", "ghn"):
            own = [row for row in part if row["init"] == init]
            for lr in sorted({row["lr"] for row in own}):
                found = [row["accuracies"]["50"] for row in own if row["lr"] == lr]
                lines.append(
                    f"| {title} | {init} | {lr:g} | {len(found)} | {100 * statistics.fmean(found):.1f} |"
                )
            for row in own:
                nets = best.setdefault("ghn" if init == "ghn" else "reference", {})
                nets[row["net"]] = max(nets.get(row["net"], 0.0), row["accuracies"]["50"])
        difference = Interval.of(value - best["reference"][net] for net, value in best["ghn"].items())
        lines.append(
            f"| {title} | ghn - better one | best of each network | {difference.number} | {difference} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train what has no row yet, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inits", nargs="+", default=["kaiming", "default", "ghn"])
    parser.add_argument("--lrs", nargs="+", type=float, default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--families", nargs="+", default=list(CHEAP), choices=list(CHEAP))
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    rows = read_rows(RESULTS)
    if options.report:
        print(report(rows))
        return
    torch.set_num_threads(1)
    everything = fashion_mnist("train")
    data, test = everything.head(10_000), everything.part(slice(50_000, 51_000))
    nets = {}
    for family in options.families:
        nets |= development(family, CHEAP[family])
    comparison = Comparison(options.inits, options.lrs, budgets=(50,))
    compare(comparison, nets, resolve_ghn("bundled"), data, test, rows, RESULTS)


if __name__ == "__main__":
    main()
