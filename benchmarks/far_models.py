"""Which indicator tells, before any training, that a prediction of the bundled GHN is at chance?

    python benchmarks/far_models.py            # rows that are missing: 5 CPU minutes for all of them
    python benchmarks/far_models.py --distances  # the same rows with distances of embeddings: 1 CPU minute
    python benchmarks/far_models.py --cost     # CPU seconds of apply with and without the check
    python benchmarks/far_models.py --report   # tables of docs/training.md

Compared are the response to synthetic images (``ghn_init.response``) and distances in the GHN's embedding
space to 200 of its training networks: of a network's mean embedding (mean over the 5 nearest), and the
largest among its nodes (to the nearest of 8,000 nodes). Thresholds are the 95 % quantiles of development
networks of the families of the training; what is counted are held-out networks and models of timm.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import timm
import torch
from marked import write
from torch import nn

import ghn_init
from ghn_init import ArchGraph
from ghn_init.default import resolve_ghn
from ghn_init.logging import progress_bar
from ghn_init.response import measure_response
from ghn_init.training.comparison import development
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.evaluate import accuracy
from ghn_init.training.families import FAMILIES
from ghn_init.training.presets import load_preset
from ghn_init.training.real import SEEN_FAMILIES, UNSEEN_FAMILIES
from ghn_init.training.spaces import Architecture, Space, held_out
from ghn_init.training.targets import trace_target

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "far_models.jsonl"
COST = ROOT / "benchmarks" / "results" / "far_cost.jsonl"
PAGE = ROOT / "docs" / "training.md"
EXAMPLE = torch.zeros(2, 3, 32, 32)
CHANCE = 0.2
"""Accuracy below which a prediction is taken to be at chance, which is 0.1."""
INDICATORS = {
    "response": "response to synthetic images",
    "node": "largest distance of a node's embedding",
    "graph": "distance of the mean embedding",
}
COSTLY = ("resnet18", "resnet50", "efficientnet_b0", "vit_tiny_patch16_224")
SMALL = {"img_size": 32}
SMALL_PATCHES = {"img_size": 32, "patch_size": 4}
OTHERS: dict[str, dict[str, Any]] = {
    **{name: {} for name in (
        "hrnet_w18_small", "resnext26ts", "mnasnet_small", "semnasnet_050", "fbnetc_100", "hardcorenas_a",
        "efficientnet_b0", "mixnet_s", "rexnet_100", "repghostnet_050", "mobilenetv4_conv_small",
        "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "xcit_nano_12_p16_224", "pvt_v2_b0",
        "fasternet_t0", "starnet_s1", "lambda_resnet26t", "inception_next_atto", "efficientvit_m0",
        "efficientvit_b0", "nf_regnet_b0", "convnextv2_atto", "regnetz_005", "resnetv2_18", "hgnetv2_b0",
        "gernet_s", "resnest14d", "mambaout_femto",
    )},
    **dict.fromkeys(("resmlp_12_224", "gmlp_ti16_224", "levit_128s", "visformer_tiny"), SMALL),
    **dict.fromkeys(("pit_ti_224", "swin_tiny_patch4_window7_224", "coat_lite_tiny"), SMALL_PATCHES),
}  # fmt: skip
"""Models of timm that take 32x32 images, of families that neither training nor the tables above have."""
Row = dict[str, Any]


def networks() -> dict[str, tuple[str, Architecture | dict[str, Any]]]:
    """Name → group, and an architecture or arguments of timm."""
    found: dict[str, tuple[str, Architecture | dict[str, Any]]] = {}
    for family in load_preset("bundled").families:
        drawn = development(family, range(12 if family == "cells" else 6))
        found |= {name: ("development", each) for name, each in drawn.items()}
    for family in FAMILIES:
        for index, each in enumerate(held_out(family, 20 if family == "cells" else 6)):
            found[f"{family}/held-out {index}"] = ("held-out", each)
    for models in (SEEN_FAMILIES, UNSEEN_FAMILIES, OTHERS):
        found |= {name: ("timm", args) for name, args in models.items()}
    return found


@cache
def reference() -> tuple[np.ndarray, np.ndarray]:
    """Mean embeddings ``(200, h)`` of training networks, and 8,000 of their nodes' ``(8000, h)``."""
    config = load_preset("bundled")
    space = Space(config.families, config.seed)
    nodes: list[np.ndarray] = []
    for index in progress_bar(iterable=range(200), desc="training networks"):
        with torch.device("meta"):
            model = space[index].build()
        nodes.append(embeddings(ghn_init.trace(model, EXAMPLE)))
    everything = np.concatenate(nodes)
    chosen = np.random.default_rng(0).permutation(len(everything))[:8000]
    return np.stack([each.mean(0) for each in nodes]), everything[chosen]


def embeddings(graph: ArchGraph) -> np.ndarray:
    """``(N, h)`` final embeddings of the nodes that own tensors."""
    own = [index for index, node in enumerate(graph.nodes) if node.params]
    return resolve_ghn("bundled").embed(graph).numpy()[own]


def distances(graph: ArchGraph) -> dict[str, float]:
    """Both distances of a network, in standard deviations of the reference."""
    means, nodes = reference()
    own = embeddings(graph)
    far = np.linalg.norm((own.mean(0) - means) / means.std(0), axis=1)
    apart = torch.cdist(torch.from_numpy(own / nodes.std(0)), torch.from_numpy(nodes / nodes.std(0)))
    return {"graph": float(np.sort(far)[:5].mean()), "node": float(apart.min(1).values.max())}


def built(name: str, what: Architecture | dict[str, Any]) -> nn.Module:
    """The network for 10 classes with its own init."""
    torch.manual_seed(0)
    return what.build() if isinstance(what, Architecture) else timm.create_model(name, num_classes=10, **what)


def measure(name: str, group: str, what: Architecture | dict[str, Any], test: ImageData) -> Row:
    """Accuracy of the prediction before any training, and the response."""
    model, ghn = built(name, what), resolve_ghn("bundled")
    target = trace_target(model, ghn)
    tensors = ghn.predict(target.graph)
    response = measure_response(model, ghn, target.graph, EXAMPLE)
    right = accuracy(lambda images: target(tensors, images), test)
    return {
        "name": name,
        "group": group,
        "accuracy": right,
        "response": response and round(response.value, 4),
    }


def add_distances(rows: list[Row]) -> None:
    """Both distances of each network."""
    known = networks()
    for row in progress_bar(iterable=rows, desc="distances"):
        with torch.device("meta"):
            model = built(row["name"], known[row["name"]][1])
        found = distances(ghn_init.trace(model, EXAMPLE))
        row |= {key: round(value, 3) for key, value in found.items()}


def cost() -> list[Row]:
    """CPU seconds of apply at the models' own sizes, the smaller of two after one more."""
    found: list[Row] = []
    for name in COSTLY:
        model: nn.Module = timm.create_model(name)
        row: Row = {"name": name}
        for far in ("ignore", "warn"):
            seconds = []
            for _ in range(3):
                began = time.process_time()
                ghn_init.apply(model, "bundled", far=far)
                seconds.append(time.process_time() - began)
            row[far] = round(min(seconds[1:]), 3)
        found.append(row)
    return found


def auc(values: np.ndarray, bad: np.ndarray) -> float:
    """Share of pairs of a bad and a good network in which the bad one has the larger value."""
    pairs = values[bad][:, None] - values[~bad][None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def tables(rows: list[Row], costs: list[Row]) -> str:
    """Markdown: what each indicator tells, the models of timm, and what the check costs."""
    head = "indicator | threshold | networks | at chance | AUC | found | false alarms"
    lines = [f"| {head} |", "|---" * 7 + "|"]
    for key, title in INDICATORS.items():
        sign = -1 if key == "response" else 1
        values = np.array([sign * row[key] for row in rows])
        groups = np.array([row["group"] for row in rows])
        bad = np.array([row["accuracy"] < CHANCE for row in rows])
        limit = float(np.quantile(values[groups == "development"], 0.95))
        for group in ("held-out", "timm"):
            own = groups == group
            far = values[own] > limit
            cells = [title, f"{sign * limit:.2f}", f"{int(own.sum())} {group}", int(bad[own].sum())]
            cells += [f"{auc(values[own], bad[own]):.2f}", f"{int((far & bad[own]).sum())}"]
            lines.append(f"| {' | '.join(map(str, [*cells, int((far & ~bad[own]).sum())]))} |")
    lines += ["", "| model | accuracy (%) | response | model | accuracy (%) | response |", "|---" * 6 + "|"]
    shown = sorted((row for row in rows if row["group"] == "timm"), key=lambda row: row["accuracy"])
    cells = [f"`{row['name']}` | {100 * row['accuracy']:.1f} | {row['response']:.2f}" for row in shown]
    half = (len(cells) + 1) // 2
    cells += [" | | "] * (2 * half - len(cells))
    lines += [f"| {left} | {right} |" for left, right in zip(cells[:half], cells[half:], strict=True)]
    lines += ["", '| model | CPU seconds of `apply` | with `far="warn"` |', "|---|---|---|"]
    lines += [f"| `{row['name']}` | {row['ignore']:.2f} | {row['warn']:.2f} |" for row in costs]
    return "\n".join(lines)


def read(path: Path) -> list[Row]:
    """Rows of a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def main() -> None:
    """Measure what is missing, or the cost, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="stop then; the same call goes on")
    parser.add_argument("--distances", action="store_true", help="add distances of embeddings")
    parser.add_argument("--cost", action="store_true", help="CPU seconds of apply")
    parser.add_argument("--report", action="store_true", help="write the tables")
    options = parser.parse_args()
    if options.report:
        write(PAGE, {"far models": tables(read(RESULTS), read(COST))})
        return
    torch.set_num_threads(1)
    if options.cost:
        COST.write_text("".join(json.dumps(row) + "\n" for row in cost()))
        return
    rows = read(RESULTS)
    if options.distances:
        add_distances(rows)
        RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    done, test = {row["name"] for row in rows}, fashion_mnist("test").head(1000)
    for name, (group, what) in progress_bar(iterable=networks().items(), desc="networks"):
        if name not in done and time.process_time() < options.seconds:
            row = measure(name, group, what, test)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
