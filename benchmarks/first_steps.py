"""The first updates of the networks of trained_nets.py: scores after cheap steps, and robustness.

    python benchmarks/first_steps.py                    # all trained networks; continues where it stopped
    python benchmarks/first_steps.py --only own

Every network takes the cheap steps of :func:`ghn_init.rank`, from its own initial weights (``own``, of a
seed that the truth does not use) and from those that the GHN predicts (``ghn``). A row of the results
has its accuracy after 50 steps on test images that the truth does not use, as a ranking
scores it; from its own weights, its accuracy on corrupted images, too.
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
from ranking_scores import BATCH, CPU, LR, TRUTH_IMAGES, trained
from tqdm import tqdm
from trained_nets import robustness

import ghn_init
from ghn_init.ranking.evidence import Evidence, evidence
from ghn_init.ranking.scores import correct, take_steps
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.spaces import Architecture, held_out
from ghn_init.training.targets import use_batch_statistics

RESULTS = Path(__file__).resolve().parent / "results"
STEPS, SEED, IMAGES, CORRUPTED_IMAGES = 50, 2, 1_000, 500


def parts() -> tuple[ImageData, Evidence, Evidence]:
    """Images that score, the same in batches, and what the steps train on."""
    test = fashion_mnist("test")
    at = slice(TRUTH_IMAGES, TRUTH_IMAGES + IMAGES)
    unseen = ImageData(test.images[at], test.labels[at], test.classes, test.source)
    train = evidence(fashion_mnist("train"), images=STEPS * BATCH, batch_size=BATCH)
    return unseen, evidence(unseen, images=IMAGES, batch_size=BATCH), train


def measure(
    architecture: Architecture, ghn: ghn_init.GHN | None, unseen: ImageData, score: Evidence, train: Evidence
) -> dict[str, Any]:
    """One network from one start."""
    torch.manual_seed(SEED)
    model = architecture.build()
    if ghn is not None:
        ghn_init.apply(model, ghn, example_inputs=torch.zeros(2, 3, 32, 32))
    use_batch_statistics(model)
    take_steps(model, train, 10, CPU, steps=STEPS, lr=LR)
    right = correct(model, score, 10, CPU).float()
    found: dict[str, Any] = {"accuracy": round(float(right.mean()), 4)}
    if ghn is None:
        found["clean"] = round(float(right[:CORRUPTED_IMAGES].mean()), 4)
        found["corrupted"] = robustness(model, unseen.head(CORRUPTED_IMAGES))
    return found


def main() -> None:
    """Measure what has no row yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("own", "ghn"), help="only from this start")
    parser.add_argument("--results", type=Path, default=RESULTS / "first_steps.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    unseen, score, train = parts()
    ghn = ghn_init.default.resolve_ghn("bundled")
    done: set[tuple[str, str, int]] = set()
    if options.results.exists():
        rows = map(json.loads, options.results.read_text(encoding="utf-8").splitlines())
        done = {(row["start"], row["family"], row["index"]) for row in rows}
    keys = sorted(trained(), key=lambda key: (key[1], key[0]))
    starts = (options.only,) if options.only else ("own", "ghn")
    todo = [(start, *key) for start in starts for key in keys if (start, *key) not in done]
    for start, family, index in tqdm(todo, unit="network"):
        began = time.process_time()
        architecture = held_out(family, index + 1)[index]
        row = {"start": start, "family": family, "index": index}
        row |= measure(architecture, ghn if start == "ghn" else None, unseen, score, train)
        row["cpu_seconds"] = round(time.process_time() - began, 1)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
