"""Train held-out architectures on Fashion-MNIST for equal budgets: the truth that a ranking is judged by.

    python benchmarks/trained_nets.py                   # all networks, two seeds; continues where it stopped
    python benchmarks/trained_nets.py --only cells --seeds 0

Every network starts from its own default initialisation and takes the same number of updates on the same
number of images, by the recipe of :func:`ghn_init.ranking.recipe.train`. A seed sets the initialisation and
the order of the images. One row for each run goes to ``results/trained_nets.jsonl``: test accuracy along the
training, parameters, and CPU seconds; with seed 0 accuracy on corrupted test images, too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ghn_init.ranking.recipe import train as fit
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.evaluate import accuracy, calibrated_accuracy
from ghn_init.training.spaces import Architecture, held_out

HERE = Path(__file__).resolve().parent
NUMBERS = {"cells": 40, "resnet": 8, "convnext": 8, "regnet": 8, "mixer": 8, "mobile": 8, "vit": 8}
"""Family → how many of its held-out networks are trained."""
STEPS, BATCH, LR, MARKS = 400, 64, 2e-3, (25, 50, 100, 200, 400)
TRAIN_IMAGES, TEST_IMAGES = 20_000, 4_000
CORRUPTED_IMAGES = 1_000
ROBUSTNESS_SEED = 0
"""The seed whose networks are tested on corrupted images, too."""


def train(architecture: Architecture, seed: int, data: ImageData, test: ImageData) -> dict[str, Any]:
    """One run: accuracies at the marks and what they cost."""
    start = time.process_time()
    torch.manual_seed(seed)
    model = architecture.build().to(memory_format=torch.channels_last)
    accuracies: dict[str, float] = {}

    def mark(step: int, loss: float) -> None:
        if step in MARKS:
            accuracies[str(step)] = round(calibrated_accuracy(model, data, test), 4)

    fit(model, data, steps=STEPS, lr=LR, batch_size=BATCH, seed=seed, on_step=mark)
    robust = seed == ROBUSTNESS_SEED
    return {
        "accuracies": accuracies,
        **({"corrupted": robustness(model, test.head(CORRUPTED_IMAGES))} if robust else {}),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def robustness(model: nn.Module, test: ImageData) -> dict[str, float]:
    """Accuracy on images under each corruption, after the last calibration of batch norms."""
    return {name: round(accuracy(model, corrupt(test)), 4) for name, corrupt in CORRUPTIONS.items()}


def _changed(change: Callable[[Tensor], Tensor]) -> Callable[[ImageData], ImageData]:
    def corrupt(data: ImageData) -> ImageData:
        images = change(data.images.float()).clamp(0, 255).round().to(torch.uint8)
        return ImageData(images, data.labels, data.classes, data.source)

    return corrupt


def _noise(images: Tensor) -> Tensor:
    return images + 51 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def _blur(images: Tensor) -> Tensor:
    return F.avg_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]


CORRUPTIONS = {
    "noise": _changed(_noise),
    "blur": _changed(_blur),
    "contrast": _changed(lambda images: 0.4 * images),
    "shift": _changed(lambda images: torch.roll(images, (3, 3), (1, 2))),
}
"""Gaussian noise of deviation 0.2, a 3 x 3 box blur, contrast of 0.4, a shift of 3 pixels both ways."""


def cases(only: str) -> Iterator[tuple[str, int, Architecture]]:
    """Family, index in the held-out set, architecture; families in turn, so that a part is a fair sample."""
    longest = max(NUMBERS.values())
    for index in range(longest):
        for family, number in NUMBERS.items():
            share = [k * longest // number for k in range(number)]
            if only in family and index in share:
                position = share.index(index)
                yield family, position, held_out(family, number)[position]


def main() -> None:
    """Train what has no row yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only families whose name contains this text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "trained_nets.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, test = fashion_mnist("train").head(TRAIN_IMAGES), fashion_mnist("test").head(TEST_IMAGES)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if options.results.exists():
        rows = map(json.loads, options.results.read_text(encoding="utf-8").splitlines())
        done = {(row["fingerprint"], row["seed"]) for row in rows}
    runs = [(seed, *case) for case in cases(options.only) for seed in options.seeds]
    todo = [run for run in runs if (run[3].fingerprint, run[0]) not in done]
    for seed, family, index, architecture in tqdm(todo, unit="run"):
        row = {"family": family, "index": index, "fingerprint": architecture.fingerprint, "seed": seed}
        row |= train(architecture, seed, data, test)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
