"""Initialisations compared along ordinary training, their learning rates chosen on other networks."""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ghn_init.errors import ConfigError, DataError
from ghn_init.ghn import GHN
from ghn_init.logging import progress_bar
from ghn_init.training.data import IMAGE_SIZE, ImageData
from ghn_init.training.evaluate import fine_tune
from ghn_init.training.inits import initialise
from ghn_init.training.spaces import Architecture, Space

logger = logging.getLogger("ghn_init")

Row = dict[str, Any]
KEYS = ("net", "init", "lr", "steps", "seed", "optimizer")
DEVELOPMENT_SEED = 90_000


def development(family: str, indices: Sequence[int]) -> dict[str, Architecture]:
    """Label → architecture of a stream that is neither trained on nor held out: to choose on.

    Args:
        family: Name of the family.
        indices: Places in the stream.
    """
    space = Space({family: 1.0}, DEVELOPMENT_SEED)
    return {f"{family}/development {index}": space[index] for index in indices}


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        inits: Names that :func:`ghn_init.training.inits.initialise` takes.
        lrs: Learning rates, the same for all.
        budgets: Numbers of updates; each is a training of its own, with its own cosine.
        seeds: Of the model's own init and the order of the images.
        marks: Updates after which accuracy is measured too.
        optimizer: ``sgd`` (momentum .9, weight decay 3e-4) or ``adamw`` (weight decay .02).
        batch_size: Images for each update.

    Raises:
        ConfigError: A list is empty.
    """

    inits: Sequence[str]
    lrs: Sequence[float]
    budgets: Sequence[int] = (50, 156)
    seeds: Sequence[int] = (0,)
    marks: Sequence[int] = ()
    optimizer: str = "sgd"
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("inits", "lrs", "budgets", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"a comparison needs at least one of {name}")


def compare(
    comparison: Comparison,
    nets: Mapping[str, Architecture],
    ghn: GHN | None,
    data: ImageData,
    test: ImageData,
    rows: list[Row] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> list[Row]:
    """Trains every network from every initialisation at every learning rate; one row for each run.

    Args:
        comparison: What to compare.
        nets: Label → architecture.
        ghn: The GHN of the initialisations that need one.
        data: Training images.
        test: Images that accuracy is measured on.
        rows: Rows that are there already; their runs are not repeated.
        path: JSON-lines file that each new row is added to.

    Raises:
        DataError: Training and test images have different classes.
    """
    if data.classes != test.classes:
        raise DataError(f"{data.source} and {test.source} have different classes")
    found = list(rows or [])
    done = {tuple(row[key] for key in KEYS) for row in found}
    todo = [
        (label, init, lr, steps, seed, comparison.optimizer)
        for label in nets
        for init in comparison.inits
        for lr in comparison.lrs
        for steps in comparison.budgets
        for seed in comparison.seeds
    ]
    for key in progress_bar(iterable=[key for key in todo if key not in done], desc="trainings"):
        row = dict(zip(KEYS, key, strict=True)) | _run(key, nets[key[0]], comparison, ghn, data, test)
        found.append(row)
        if path is not None:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return found


def _run(
    key: tuple[str, str, float, int, int, str],
    architecture: Architecture,
    comparison: Comparison,
    ghn: GHN | None,
    data: ImageData,
    test: ImageData,
) -> Row:
    _, init, lr, steps, seed, optimizer = key
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        model = architecture.build(len(data.classes)).to(memory_format=torch.channels_last)
    initialise(model, init, ghn, torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE), 2000 + seed)
    marks = tuple(mark for mark in comparison.marks if mark <= steps)
    size = comparison.batch_size
    curve = fine_tune(
        model, data, test, steps=steps, batch_size=size, lr=lr, marks=marks, seed=seed, optimizer=optimizer
    )
    accuracies = dict(zip(map(str, curve.steps), [round(each, 4) for each in curve.accuracies], strict=True))
    return {"accuracies": accuracies, "cpu_seconds": round(time.process_time() - began, 1)}


def best_lr(rows: Sequence[Row], init: str, steps: int) -> float:
    """The learning rate of the best mean accuracy after ``steps`` updates.

    Raises:
        ConfigError: There is no row for it.
    """
    by_lr: dict[float, list[float]] = {}
    for row in rows:
        if row["init"] == init and row["steps"] == steps:
            by_lr.setdefault(row["lr"], []).append(row["accuracies"][str(steps)])
    if not by_lr:
        raise ConfigError(f"no row for {init!r} at {steps} steps")
    return max(by_lr, key=lambda lr: statistics.fmean(by_lr[lr]))


def choose_and_report(
    comparison: Comparison,
    chosen_on: Mapping[str, Architecture],
    reported_on: Mapping[str, Architecture],
    ghn: GHN | None,
    data: ImageData,
    test: ImageData,
    path: str | os.PathLike[str] | None = None,
) -> list[Row]:
    """Each initialisation's learning rate is chosen on some networks, its accuracy measured on others.

    The choice is one for each initialisation and budget. For choosing, the last 1,000 training images take
    the place of the test images and are not trained on.

    Args:
        comparison: What to compare.
        chosen_on: Networks to choose learning rates on.
        reported_on: Networks whose rows are returned.
        ghn: As for :func:`compare`, like all other arguments.
    """
    if set(chosen_on) & set(reported_on):
        raise ConfigError("a network that a choice is made on cannot be reported on")
    held = min(1000, len(data) // 5)
    fit, validation = data.part(slice(len(data) - held)), data.part(slice(len(data) - held, len(data)))
    there = read_rows(path)
    trials = there
    if len(comparison.lrs) > 1:
        trials = compare(replace(comparison, marks=()), chosen_on, ghn, fit, validation, there, path)
    trials = [row for row in trials if row["net"] in chosen_on]
    reported: list[Row] = []
    for init in comparison.inits:
        for steps in comparison.budgets:
            lr = best_lr(trials, init, steps) if trials else comparison.lrs[0]
            part = replace(comparison, inits=(init,), lrs=(lr,), budgets=(steps,))
            found = compare(part, reported_on, ghn, data, test, there, path)
            reported += [
                row for row in found
                if row["net"] in reported_on and (row["init"], row["steps"], row["lr"]) == (init, steps, lr)
            ]  # fmt: skip
    return reported


def read_rows(path: str | os.PathLike[str] | None) -> list[Row]:
    """The rows of a JSON-lines file; none if there is no file."""
    if path is None or not Path(path).is_file():
        return []
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
