"""Score the networks of trained_nets.py as a ranking would: the raw numbers behind the page on ranking.

    python benchmarks/ranking_scores.py                 # all trained networks; continues where it stopped

Rows of ``results/ranking_scores.jsonl``: for each network its costs and zero-cost proxies (``costs``), what
the GHN makes of its graph (``features``, :func:`ghn_init.ranking.properties.features`), and, from the weights
that the GHN predicts (``ghn``) and from its own initial weights (``own``), accuracy and cross-entropy after
0, 10, 25 and 50 steps that begin with the highest learning rate, on test images that the truth does not use
(``first_steps.py`` has the cheap steps of a ranking, which begin gently). ``ranking_evidence.py`` makes the
table and the plot of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from tqdm import tqdm

import ghn_init
from ghn_init.ranking.costs import count_parameters, forward_flops
from ghn_init.ranking.evidence import Evidence, evidence, logits
from ghn_init.ranking.progress import fingerprint
from ghn_init.ranking.properties import features
from ghn_init.ranking.proxies import on_a_copy
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.spaces import Architecture, held_out
from ghn_init.training.targets import use_batch_statistics

RESULTS = Path(__file__).resolve().parent / "results"
TRUTH_IMAGES, IMAGES, BATCH = 4_000, 2_000, 64
ROUNDS = ("costs", "features", "ghn 0", "ghn 25", "own 25", "ghn 50", "own 50", "ghn 10", "own 10", "own 0")
MOST_STEPS = 50
LR = 2e-3
PROXIES = ("synflow", "naswot", "grad_norm")
CPU = torch.device("cpu")


def costs(architecture: Architecture, data: Evidence) -> dict[str, Any]:
    """What is measured of an untrained network."""
    model = _built(architecture)
    proxies = {name: on_a_copy(name, model, data.inputs[0], data.labels[0]) for name in PROXIES}
    return {
        "parameters": count_parameters(model),
        "flops": forward_flops(model, torch.zeros(1, 3, 32, 32)),
        "latency": cpu_milliseconds(model),
        "proxies": {name: value for name, value in proxies.items() if math.isfinite(value)},
    }


def graph_features(architecture: Architecture, ghn: ghn_init.GHN) -> dict[str, Any]:
    """What a regressor reads, and whether a batch norm is in the network."""
    model = _built(architecture)
    graph = ghn_init.trace(model, torch.zeros(2, 3, 32, 32), convention=ghn.config.graph_convention)
    batchnorm = any(
        isinstance(module, _NormBase) and module.track_running_stats for module in model.modules()
    )
    return {
        "features": [round(value, 5) for value in features([graph], ghn)[0].tolist()],
        "batchnorm": batchnorm,
    }


def after(
    architecture: Architecture, ghn: ghn_init.GHN | None, steps: int, data: Evidence, train: Evidence
) -> dict[str, Any]:
    """Accuracy, cross-entropy and the steps' own losses, ``steps`` steps from one start."""
    model = _built(architecture)
    if ghn is not None:
        ghn_init.apply(model, ghn, example_inputs=torch.zeros(2, 3, 32, 32))
    use_batch_statistics(model)
    losses = abrupt_steps(model, train, steps) if steps else []
    model.eval()
    with torch.no_grad():
        scores = torch.cat([logits(model, inputs, 10) for inputs in data.inputs]).nan_to_num()
    labels = torch.cat(data.labels)
    return {
        "accuracy": round(float((scores.argmax(1) == labels).float().mean()), 4),
        "loss": round(float(F.cross_entropy(scores, labels)), 4),
        "losses": [round(loss, 3) for loss in losses],
    }


def abrupt_steps(model: nn.Module, data: Evidence, steps: int) -> list[float]:
    """AdamW with a cosine from the peak to 0, gradient norm at most 1: the losses, before each step."""
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(logits(model, data.inputs[step], 10), data.labels[step])
        loss.backward()
        losses.append(float(loss.detach()))
        if torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
            optimizer.step()
        schedule.step()
    return losses


def cpu_milliseconds(model: nn.Module, repeats: int = 12) -> float:
    """Least CPU milliseconds of a forward pass of one image; other programs disturb it less than time."""
    image, times = torch.zeros(1, 3, 32, 32), []
    model.eval()
    with torch.no_grad():
        for _ in range(repeats):
            began = time.process_time()
            model(image)
            times.append(time.process_time() - began)
    return round(1000 * min(times), 3)


def _built(architecture: Architecture) -> nn.Module:
    torch.manual_seed(0)
    return architecture.build()


def parts() -> tuple[Evidence, Evidence]:
    """What scores, and what the steps train on."""
    test = fashion_mnist("test")
    end = TRUTH_IMAGES + IMAGES
    unseen = ImageData(
        test.images[TRUTH_IMAGES:end], test.labels[TRUTH_IMAGES:end], test.classes, test.source
    )
    data = evidence(unseen, images=IMAGES, batch_size=BATCH)
    train = evidence(fashion_mnist("train"), images=MOST_STEPS * BATCH, batch_size=BATCH)
    return data, train


def trained() -> dict[tuple[str, int], dict[int, dict[str, Any]]]:
    """Family and index → seed → row of ``trained_nets.jsonl``, of networks that both seeds trained."""
    found: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for line in (RESULTS / "trained_nets.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["family"], row["index"]), {})[row["seed"]] = row
    return {key: rows for key, rows in sorted(found.items()) if len(rows) == 2}


def main() -> None:
    """Score what has no row yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ghn", default="bundled", help="folder, file or Hub id of the GHN")
    parser.add_argument("--results", type=Path, default=RESULTS / "ranking_scores.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ghn = ghn_init.default.resolve_ghn(options.ghn)
    name = fingerprint(ghn)
    done = set()
    if options.results.exists():
        rows = map(json.loads, options.results.read_text(encoding="utf-8").splitlines())
        done = {(row["family"], row["index"], row["what"], row["ghn"]) for row in rows}
    data, train = parts()
    rounds = [(what, key) for what in ROUNDS for key in trained()]
    for what, (family, index) in tqdm(rounds, unit="score"):
        start, _, steps = what.partition(" ")
        used = name if start in ("ghn", "features") else None
        if (family, index, what, used) in done:
            continue
        architecture = held_out(family, index + 1)[index]
        began = time.process_time()
        if start == "costs":
            found = costs(architecture, data)
        elif start == "features":
            found = graph_features(architecture, ghn)
        else:
            found = after(architecture, ghn if used else None, int(steps), data, train)
        row = {"family": family, "index": index, "what": what, "ghn": used, **found}
        row["cpu_seconds"] = round(time.process_time() - began, 2)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
