"""The bundled GHN as an initialisation on images that it was not trained on: scikit-learn's digits.

    python benchmarks/transfer.py            # trainings that are missing: 4 CPU minutes for all of them
    python benchmarks/transfer.py --report   # table of docs/training.md

50 updates on 1,437 digits, accuracy on the other 360. The learning rate of each initialisation is chosen on
development networks, with 287 of the training images left out; it is that of the best mean over them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from marked import write

from ghn_init.default import resolve_ghn
from ghn_init.training.comparison import Comparison, choose_and_report, development, read_rows
from ghn_init.training.datasets import load_images
from ghn_init.training.spaces import Architecture, held_out
from ghn_init.training.summary import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "transfer.jsonl"
PAGE = ROOT / "docs" / "training.md"
INITS = ("kaiming", "default", "orthogonal", "ghn")
CHOSEN_ON = {"cells": (14, 7), "resnet": (1,), "convnext": (1,), "mixer": (3,)}
REPORTED_ON = {"cells": 8, "resnet": 3, "convnext": 2, "mixer": 3, "vit": 2, "mobile": 2}
COMPARISON = Comparison(INITS, (0.03, 0.1), budgets=(50,))


def networks() -> tuple[dict[str, Architecture], dict[str, Architecture]]:
    """Networks to choose learning rates on, and others to report."""
    choosing: dict[str, Architecture] = {}
    for family, places in CHOSEN_ON.items():
        choosing |= development(family, places)
    reported = {
        f"{family}/held-out {index}": each
        for family, number in REPORTED_ON.items()
        for index, each in enumerate(held_out(family, number))
    }
    return choosing, reported


def main() -> None:
    """Train what is missing, or report the networks that all initialisations have."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", action="store_true", help="write the table")
    choosing, reported = networks()
    if not parser.parse_args().report:
        torch.set_num_threads(1)
        data, test = load_images("digits", "train"), load_images("digits", "test")
        for (
            name,
            each,
        ) in reported.items():  # one network at a time, so that any number of them can be reported
            ghn = resolve_ghn("bundled")
            choose_and_report(COMPARISON, choosing, {name: each}, ghn, data, test, RESULTS)
        return
    rows = [row for row in read_rows(RESULTS) if row["net"] in reported]
    complete = {net for net in reported if {row["init"] for row in rows if row["net"] == net} == set(INITS)}
    rows = [row for row in rows if row["net"] in complete]
    write(PAGE, {"transfer": table(rows, INITS[:3])})


if __name__ == "__main__":
    main()
