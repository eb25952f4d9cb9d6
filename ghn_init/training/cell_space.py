"""Which networks of cells are drawn: the distribution of DeepNets-1M at small size, and its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from torch import nn

from ghn_init.training.cells import ACTIVATIONS, STEMS, CellNet


def sample_cells(rng: Random) -> dict[str, Any]:
    """Arguments of a network of the distribution that GHNs are trained on."""
    cells = rng.randint(2, 8)
    return _sample_around(rng, cells, rng.randint(1, 4 if cells <= 5 else 2))


def _sample_around(rng: Random, cells: int, steps: int) -> dict[str, Any]:
    kernel = rng.choice((3, 3, 5, 7))
    stem = rng.choices(tuple(STEMS), (1, 2, 2, 2, 2))[0]
    attention = STEMS[stem] > 1 and rng.random() < 0.4
    normal, reduce = (_sample_steps(rng, steps, kernel, attention) for _ in range(2))
    used = {name for pair in (*normal, *reduce) for name, _ in pair}
    shallow = cells <= 3 and steps <= 2
    heavy = STEMS[stem] == 1 or steps * cells > 12 or kernel > 3
    return {
        "channels": rng.choice((8, 16) if heavy else (8, 16, 16, 24, 32)),
        "cells": cells,
        "normal": normal,
        "reduce": reduce,
        "norm": rng.choice(("bn", "bn", "bn", "ln", "none") if shallow else ("bn", "bn", "bn", "bn", "ln")),
        "act": rng.choice(("relu", "relu", *ACTIVATIONS)),
        "kernel": kernel,
        "stem": stem,
        "pos_enc": "msa" in used and rng.random() < 0.8,
        "concat": rng.random() < 0.5,
        "glob_avg": rng.random() < 0.85,
        "fc_dim": rng.choice((0, 0, 0, 32, 64, 96, 128)),
    }


def _sample_steps(rng: Random, steps: int, kernel: int, attention: bool) -> list[list[list[Any]]]:
    weighted = ["sep_conv", "sep_conv", "dil_conv", "conv_1x1", "conv_kxk", "conv_1xk_kx1"]
    if kernel > 3:
        weighted.remove("conv_kxk")
    names = ["skip", "max_pool", "avg_pool", "cse", *weighted, *(["msa"] * 3 if attention else [])]
    while True:
        cell = []
        for step in range(steps):
            sources = rng.sample(range(2), 2) if step == 0 else [rng.randrange(2 + step) for _ in range(2)]
            cell.append([[rng.choice(names), source] for source in sources])
        flat = [name for pair in cell for name, _ in pair]
        if flat.count("cse") <= 1 and any(name in weighted or name == "msa" for name in flat):
            return cell


def _wide(rng: Random) -> dict[str, Any]:
    return {**sample_cells(rng), "channels": rng.choice((48, 64))}


def _deep(rng: Random) -> dict[str, Any]:
    return _sample_around(rng, rng.randint(10, 16), rng.randint(1, 2))


def _dense(rng: Random) -> dict[str, Any]:
    return _sample_around(rng, rng.randint(3, 5), rng.randint(5, 7))


def _bn_free(rng: Random) -> dict[str, Any]:
    return {**sample_cells(rng), "norm": rng.choice(("ln", "none"))}


CELL_SPLITS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "wide": _wide, "deep": _deep, "dense": _dense, "bn-free": _bn_free,
}  # fmt: skip
"""Split → sampler of networks outside what GHNs are trained on: more channels, cells or steps than there, or
no batch norm (as the evaluation splits of DeepNets-1M)."""


def build_cells(args: Mapping[str, Any], num_classes: int, image_size: int) -> nn.Module:
    """The network of the given arguments."""
    return CellNet(**args, num_classes=num_classes, image_size=image_size)
