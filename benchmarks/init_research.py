"""Initialisations along training: rates chosen on development networks, accuracies of held-out ones.

    python benchmarks/init_research.py --inits kaiming ghn --lrs 0.01 0.1  # development rows that are missing
    python benchmarks/init_research.py --held-out                          # rows of held-out networks
    python benchmarks/init_research.py --report                             # Markdown into docs/training.md

The first 10,000 training images are trained on. Accuracy is that on 1,000 other training images for
development networks, after 50 updates, and on 1,000 test images for held-out ones, along one epoch of 156
updates. No network is of both kinds. One learning rate for each initialisation, the best on the mean of all
development networks; rates were added, by factors of about 3, until the best one lay between worse ones.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from marked import write

from ghn_init.default import resolve_ghn
from ghn_init.training.comparison import Comparison, Row, compare, development, read_rows
from ghn_init.training.data import fashion_mnist
from ghn_init.training.spaces import Architecture, held_out
from ghn_init.training.summary import Interval, plot, steps_to

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DEVELOPMENT, HELD_OUT = RESULTS / "init_research.jsonl", RESULTS / "init_held_out.jsonl"
PAGE, FIGURE = ROOT / "docs" / "training.md", ROOT / "docs" / "images" / "initialisations.png"
CHEAP = {
    "cells": (20, 14, 23, 7, 11, 0, 8, 16, 13, 5), "resnet": (1, 4), "mobile": (3,), "regnet": (2,),
    "vit": (1, 0), "convnext": (1,), "mixer": (3,),
}  # fmt: skip
"""Family → places of networks with cheap training steps, chosen by their cost alone."""
REPORTED = ("kaiming", "default", "orthogonal", "ghn", "ghn:orthogonal=true,scale=1")
REFERENCES = REPORTED[:3]
MEASURED = (0, 10, 25, 50, 78, 104, 130)
SHOWN = ("0", "25", "50", "156")
COLUMNS = (
    *("networks", "initialisation", "learning rate", *(f"after {mark}" for mark in SHOWN)),
    *("difference at 50", "difference at 156", "not worse at 156", "share of the updates"),
)
SLACK = 0.01
"""An accuracy on 1,000 images is not worse if it is less than a point lower: one standard error."""
PER_FAMILY = 4
"""Held-out networks of each family, the first of its frozen set; four times as many of the cells."""


def held_out_networks() -> dict[str, Architecture]:
    """The networks that are reported on, families mixed so that the first few are of all."""
    found: dict[str, Architecture] = {}
    for place in range(PER_FAMILY):
        for family in CHEAP:
            for index in range(4 * place, 4 * place + 4) if family == "cells" else (place,):
                found[f"{family}/held-out {index}"] = held_out(family, index + 1)[index]
    return found


def means(rows: list[Row]) -> dict[str, dict[float, float]]:
    """Initialisation → learning rate → mean accuracy, of rates that all development networks have."""
    count = sum(map(len, CHEAP.values()))
    found: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        found.setdefault(row["init"], {}).setdefault(row["lr"], []).append(row["accuracies"]["50"])
    return {
        init: {lr: statistics.fmean(values) for lr, values in sorted(by_lr.items()) if len(values) == count}
        for init, by_lr in found.items()
    }


def chosen(rows: list[Row]) -> dict[str, float]:
    """Initialisation → the best learning rate on the mean of the development networks."""
    return {init: max(by_lr, key=lambda lr: by_lr[lr]) for init, by_lr in means(rows).items() if by_lr}


def choice_table(rows: list[Row]) -> str:
    """Markdown: mean accuracy of the development networks for each learning rate."""
    found = {init: by_lr for init, by_lr in means(rows).items() if by_lr}
    rates = sorted({lr for by_lr in found.values() for lr in by_lr})
    best = chosen(rows)
    lines = [f"| initialisation | {' | '.join(f'{lr:g}' for lr in rates)} |", "|---" * (len(rates) + 1) + "|"]
    for init, by_lr in found.items():
        cells = [f"{100 * by_lr[lr]:.1f}" if lr in by_lr else "" for lr in rates]
        cells = [f"**{cell}**" if lr == best[init] else cell for cell, lr in zip(cells, rates, strict=True)]
        lines.append(f"| `{init}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def result_table(rows: list[Row]) -> str:
    """Markdown: each initialisation along an epoch, and the paired difference to the best reference there."""
    nets = complete(rows)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    cells = [net for net in nets if net.startswith("cells")]
    groups = {"all": nets, "cells": cells, "real families": [net for net in nets if net not in cells]}
    for title, group in groups.items():
        by_init = {
            init: {
                row["net"]: row["accuracies"] for row in rows if row["init"] == init and row["net"] in group
            }
            for init in REPORTED
        }
        rates = {row["init"]: row["lr"] for row in rows}
        for init in REPORTED:
            told = " | ".join(result_cells(by_init, init))
            lines.append(f"| {title} ({len(group)}) | `{init}` | {rates[init]:g} | {told} |")
    return "\n".join(lines)


def result_cells(by_init: dict[str, dict[str, dict[str, float]]], init: str) -> list[str]:
    """Accuracies along the epoch, differences at its third and at its end, and what follows from them."""
    own = by_init[init]
    cells = [f"{100 * statistics.fmean(each[mark] for each in own.values()):.1f}" for mark in SHOWN]
    for mark in SHOWN[-2:]:
        base = by_init[best_at(by_init, mark)]
        differences = Interval.of(own[net][mark] - base[net][mark] for net in own)
        cells.append("reference" if base is own else str(differences))
    last = SHOWN[-1]
    goals = {net: each[last] for net, each in by_init[best_at(by_init, last)].items()}
    cells.append(f"{100 * statistics.fmean(own[net][last] >= goals[net] - SLACK for net in own):.0f} %")
    reached = [steps_to({"accuracies": own[net]}, goals[net]) for net in own]
    median = statistics.median(math.inf if each is None else each / int(last) for each in reached)
    return [*cells, "never" if math.isinf(median) else f"{median:.2f}"]


def complete(rows: list[Row]) -> list[str]:
    """Networks that every initialisation has a row of."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["net"], set()).add(row["init"])
    return [net for net, inits in found.items() if inits >= set(REPORTED)]


def best_at(by_init: dict[str, dict[str, dict[str, float]]], mark: str) -> str:
    """The reference of the best mean accuracy after so many updates."""
    return max(REFERENCES, key=lambda init: statistics.fmean(each[mark] for each in by_init[init].values()))


def write_page(rows: list[Row], reported: list[Row]) -> None:
    """The tables into the page; held-out networks and their figure once all are trained."""
    nets = complete(reported)
    tables = [choice_table(rows)]
    if set(nets) == set(held_out_networks()):
        tables.append(result_table(reported))
        plot([row for row in reported if row["net"] in nets], FIGURE, REFERENCES)
    write(PAGE, {"initialisations": "\n\n".join(tables)})


def main() -> None:
    """Train what has no row yet, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inits", nargs="+", default=["kaiming", "default", "ghn"])
    parser.add_argument("--lrs", nargs="+", type=float, default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--families", nargs="+", default=list(CHEAP), choices=list(CHEAP))
    parser.add_argument("--held-out", action="store_true", help="train held-out networks")
    parser.add_argument("--report", action="store_true", help="write the page")
    options = parser.parse_args()
    rows, reported = read_rows(DEVELOPMENT), read_rows(HELD_OUT)
    if options.report:
        write_page(rows, reported)
        return
    torch.set_num_threads(1)
    everything, ghn = fashion_mnist("train"), resolve_ghn("bundled")
    data = everything.head(10_000)
    if options.held_out:
        rates, test = chosen(rows), fashion_mnist("test").head(1000)
        for label, net in held_out_networks().items():
            for init in REPORTED:
                comparison = Comparison(
                    (init,), (rates[init],), budgets=(156,), marks=(0, 10, 25, 50, 78, 104, 130)
                )
                compare(comparison, {label: net}, ghn, data, test, read_rows(HELD_OUT), HELD_OUT)
        return
    nets: dict[str, Architecture] = {}
    for family in options.families:
        nets |= development(family, CHEAP[family])
    comparison = Comparison(options.inits, options.lrs, budgets=(50,))
    compare(comparison, nets, ghn, data, everything.part(slice(50_000, 51_000)), rows, DEVELOPMENT)


if __name__ == "__main__":
    main()
