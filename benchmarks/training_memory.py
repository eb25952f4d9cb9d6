"""Resident memory of a training run over 10,000 updates, with checkpoints and log.

python benchmarks/training_memory.py             # 10,000 updates of a tiny GHN: 7 CPU minutes
python benchmarks/training_memory.py --endless   # 1,000 updates, each on an architecture never seen before
python benchmarks/training_memory.py --report    # picture and table of docs/training.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import torch
from marked import write
from matplotlib import pyplot as plt

from ghn_init.training.config import TrainConfig
from ghn_init.training.log import StepLog
from ghn_init.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "training_memory.jsonl"
PAGE, PICTURE = ROOT / "docs" / "training.md", ROOT / "docs" / "images" / "training_memory.png"
POOL, UPDATES, ENDLESS = 100, 10_000, 1_000
EVERY = {UPDATES: 100, ENDLESS: 10}
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
Row = dict[str, Any]


def config(endless: bool) -> TrainConfig:
    """A run with cheap updates."""
    return TrainConfig(
        ghn={"hid": 16, "layers": 1, "max_shape": [16, 16, 3, 3], "encoder": "gated_gnn"},
        families={"cells": 1.0, "vit": 2.0, "mixer": 2.0},
        pool=None if endless else POOL,
        pool_start=POOL,
        steps=ENDLESS if endless else UPDATES,
        batch_size=4,
        inner_steps=1,
        image_size=16,
        data="bundled",
        checkpoint_every=500,
    )


def resident() -> float:
    """Memory of this process in MB (10^6 bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE / 1e6


def measure(endless: bool) -> None:
    """Train, and add a row for every hundredth (tenth) update."""
    torch.set_num_threads(1)
    kind = "endless" if endless else "pool"
    others = [row for each, run in rows().items() if each != kind for row in run]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in others))
    run = config(endless)
    began = time.process_time()

    def note(entry: StepLog) -> None:
        if entry.step % EVERY[run.steps]:
            return
        row = {
            "kind": kind,
            "update": entry.step,
            "resident": round(resident(), 2),
            "skipped": entry.skipped,
            "cpu_seconds": round(time.process_time() - began, 1),
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        Trainer(run, folder=folder).run(on_step=note)


def rows() -> dict[str, list[Row]]:
    """Kind of run → its rows."""
    found: dict[str, list[Row]] = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.is_file() else ():
        row = json.loads(line)
        found.setdefault(row["kind"], []).append(row)
    return found


def table(found: dict[str, list[Row]]) -> str:
    """Markdown: memory at a few updates, and the slope of the second half."""
    lines = [
        "| architectures | update | resident memory (MB) | growth in the 2nd half (MB / 1,000 updates) |",
        "|---" * 4 + "|",
    ]
    for kind, run in found.items():
        last = run[-1]["update"]
        half = [row for row in run if row["update"] >= last / 2]
        slope = statistics.linear_regression(
            [row["update"] / 1000 for row in half], [row["resident"] for row in half]
        ).slope
        for share in (0.1, 0.25, 0.5, 0.75, 1.0):
            row = min(run, key=lambda row: abs(row["update"] - share * last))
            title = f"a pool of {POOL}" if kind == "pool" else "a new one at each update"
            grown = f"{slope:+.2f}" if share == 1 else ""
            lines.append(f"| {title} | {row['update']:,} | {row['resident']:.0f} | {grown} |")
    return "\n".join(lines)


def picture(found: dict[str, list[Row]]) -> None:
    """Memory along each run."""
    figure, axes = plt.subplots(
        1, len(found), figsize=(5 * len(found), 3), layout="constrained", squeeze=False
    )
    for each, (kind, run) in zip(axes[0], found.items(), strict=True):
        each.plot([row["update"] for row in run], [row["resident"] for row in run], color="#186bba")
        title = f"a pool of {POOL} architectures" if kind == "pool" else "a new architecture at each update"
        each.set(xlabel="updates", ylabel="resident memory (MB)", title=title)
        each.set_ylim(0, 1.15 * max(row["resident"] for row in run))
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=130)


def main() -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endless", action="store_true", help="draw a new architecture at each update")
    parser.add_argument("--report", action="store_true", help="write picture and table")
    options = parser.parse_args()
    if not options.report:
        measure(options.endless)
        return
    found = rows()
    picture(found)
    write(PAGE, {"memory": table(found)})


if __name__ == "__main__":
    main()
