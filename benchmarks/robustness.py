"""Accuracy on corrupted images of the networks of trained_nets.py: what the study of properties predicts.

    python benchmarks/robustness.py                     # all trained networks; continues where it stopped

Every network trains for 100 updates of the recipe (:func:`ghn_init.ranking.recipe.train`), a quarter of those
of ``trained_nets.py``, with the first of its seeds. A row of ``results/robustness.jsonl``: accuracy on clean
test images and under each of the corruptions of ``trained_nets.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ranking_scores import trained
from tqdm import tqdm
from trained_nets import BATCH, CORRUPTED_IMAGES, LR, TRAIN_IMAGES, robustness

from ghn_init.ranking.recipe import train as fit
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.evaluate import calibrated_accuracy
from ghn_init.training.spaces import Architecture, held_out

RESULTS = Path(__file__).resolve().parent / "results"
STEPS, SEED = 100, 0


def measure(architecture: Architecture, data: ImageData, test: ImageData) -> dict[str, Any]:
    """Train one network and test it."""
    torch.manual_seed(SEED)
    model = architecture.build().to(memory_format=torch.channels_last)
    fit(model, data, steps=STEPS, lr=LR, batch_size=BATCH, seed=SEED)
    return {"clean": round(calibrated_accuracy(model, data, test), 4), "corrupted": robustness(model, test)}


def main() -> None:
    """Measure what has no row yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS / "robustness.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = fashion_mnist("train").head(TRAIN_IMAGES)
    test = fashion_mnist("test").head(CORRUPTED_IMAGES)
    done: set[tuple[str, int]] = set()
    if options.results.exists():
        rows = map(json.loads, options.results.read_text(encoding="utf-8").splitlines())
        done = {(row["family"], row["index"]) for row in rows}
    todo = sorted((key for key in trained() if key not in done), key=lambda key: (key[1], key[0]))
    for family, index in tqdm(todo, unit="network"):
        start = time.process_time()
        row = {"family": family, "index": index, **measure(held_out(family, index + 1)[index], data, test)}
        row["cpu_seconds"] = round(time.process_time() - start, 1)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
