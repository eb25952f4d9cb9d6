"""What a GHN learns from the same number of updates, one choice changed at a time.

    python benchmarks/training_research.py                    # variants that have no row yet
    python benchmarks/training_research.py --variants start centred --seeds 0 1
    python benchmarks/training_research.py --report           # Markdown into docs/training.md

Each variant makes 1,000 updates on cells at 16 pixels (50,000 training images) and is then asked for 30
development networks, which neither training nor held-out sets have: accuracy of the bare prediction on 512
other training images.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from marked import write

from ghn_init.logging import progress_bar
from ghn_init.training.comparison import development
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.evaluate import accuracy
from ghn_init.training.summary import Interval
from ghn_init.training.targets import prepare_target
from ghn_init.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "training_research.jsonl"
PAGE = ROOT / "docs" / "training.md"
COLUMNS = (
    *("variant", "seeds", "mean (%)", "with batch norm", "with layer norm"),
    *("difference to the first (95 %)", "CPU seconds"),
)
SIDE, UPDATES, NETWORKS = 16, 1000, 30
GHN = {"hid": 32, "layers": 1, "max_shape": [64, 64, 7, 7], "encoder": "gated_gnn"}
RUN = {
    "families": {"cells": 1}, "pool": 1500, "pool_start": 8, "pool_growth": 0.25, "steps": UPDATES,
    "batch_size": 32, "image_size": SIDE,
}  # fmt: skip
BOTH = {"encoder": "residual_gnn", "centre_weights": True}
START, CHOSEN = "start", "residual, centred"
FAR = {"inner_lr": 0.08}
VARIANTS: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    START: ("gated GNN, no centring, inner steps of 0.02", {}, {}),
    "inner 0.08": ("inner steps of 0.08", {}, FAR),
    "centred": ("filters of zero mean, inner steps of 0.08", {"centre_weights": True}, FAR),
    "residual": ("gated GNN beside a skip connection and depth", {"encoder": "residual_gnn"}, FAR),
    CHOSEN: ("both", BOTH, FAR),
    "graphormer": ("Graphormer of 2 layers, centred", {**BOTH, "encoder": "graphormer", "layers": 2}, FAR),
    "wide": ("both, embeddings of 64", {**BOTH, "hid": 64}, FAR),
    "one step": ("both, one gradient for each prediction", BOTH, {"inner_steps": 1}),
    "lr 0.002": ("both, twice the learning rate", BOTH, {**FAR, "lr": 0.002}),
    "lr 0.0005": ("both, half the learning rate", BOTH, {**FAR, "lr": 0.0005}),
}
"""Name → what it is, fields of the GHN's configuration, fields of the run's."""


def part(images: ImageData, start: int, stop: int) -> ImageData:
    """The images of some places."""
    return ImageData(images.images[start:stop], images.labels[start:stop], images.classes, images.source)


def measure(name: str, seed: int, images: ImageData) -> dict[str, Any]:
    """Trains one variant and evaluates it: its row."""
    _, ghn_changes, run_changes = VARIANTS[name]
    config = TrainConfig(**{**RUN, **run_changes, "ghn": {**GHN, **ghn_changes}, "seed": seed})
    began = time.process_time()
    ghn = Trainer(config, part(images, 0, 50_000)).run()
    spent = time.process_time() - began
    found: dict[str, float] = {}
    norms: dict[str, str] = {}
    for label, architecture in development("cells", range(NETWORKS)).items():
        target = prepare_target(architecture, ghn, SIDE)
        tensors = ghn.predict(target.graph)
        test = part(images, 50_000, 50_512)
        found[label] = accuracy(lambda batch, t=target, p=tensors: t(p, batch), test, 64, SIDE)
        norms[label] = architecture.args["norm"]
    return {
        "variant": name, "seed": seed, "cpu_seconds": round(spent), "accuracies": found, "norms": norms,
        "torch": torch.__version__,
    }  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown: accuracies of each variant, and its paired difference to the start."""
    if not rows:
        return "Not measured yet."
    by_name = {name: [row for row in rows if row["variant"] == name] for name in VARIANTS}
    first = {row["seed"]: row["accuracies"] for row in by_name[START]}
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, (text, _, _) in VARIANTS.items():
        if not (own := by_name[name]):
            continue
        values = [value for row in own for value in row["accuracies"].values()]
        norms = [norm for row in own for norm in row["norms"].values()]
        means = [_mean(values, norms, norm) for norm in ("bn", "ln")]
        pairs = [
            row["accuracies"][net] - first[row["seed"]][net]
            for row in own
            if row["seed"] in first
            for net in row["accuracies"]
        ]
        told = str(Interval.of(pairs)) if pairs and name != START else ""
        spent = statistics.fmean(row["cpu_seconds"] for row in own)
        cells = [text, len(own), f"{100 * statistics.fmean(values):.1f}", *means, told, f"{spent:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _mean(values: list[float], norms: list[str], wanted: str) -> str:
    return f"{100 * statistics.fmean(v for v, norm in zip(values, norms, strict=True) if norm == wanted):.1f}"


def main() -> None:
    """Measures what is missing, or writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if options.report:
        write(PAGE, {"objective": report(rows)})
        return
    torch.set_num_threads(1)
    known = {(row["variant"], row["seed"]) for row in rows}
    asked = [(name, seed) for seed in options.seeds for name in options.variants]
    images = fashion_mnist("train")
    for name, seed in progress_bar(iterable=[each for each in asked if each not in known], desc="variants"):
        row = measure(name, seed, images)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
