"""What a run did and how good its GHN is, as Markdown for model cards and documentation."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

from ghn_init.errors import CheckpointError
from ghn_init.ghn import GHN
from ghn_init.training.cells import NORMS
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData
from ghn_init.training.evaluate import ZeroShot, zero_shot
from ghn_init.training.families import FAMILIES
from ghn_init.training.real import SEEN_FAMILIES, UNSEEN_FAMILIES, build
from ghn_init.training.spaces import Architecture, held_out


def evaluation_table(ghn: GHN, data: ImageData, networks: int = 40) -> str:
    """Markdown: accuracy before any training step on held-out random networks and on timm models.

    Args:
        ghn: The GHN.
        data: Test images.
        networks: Held-out networks of the cell space; a quarter as many of each other family.
    """
    lines = [
        f"Accuracy (%) on {len(data):,} test images before any training step; batch norms use batches of 64.",
        "",
        "| held-out networks | number | mean ± standard error | median | max | min |",
        "|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        drawn = held_out(family, networks if family == "cells" else max(2, networks // 4))
        result = zero_shot(ghn, {_label(i): each for i, each in enumerate(drawn)}, data)
        lines.append(_row(family, result))
        if family == "cells":
            parts = {norm: _part(result, drawn, norm) for norm in NORMS}
            lines += [_row(f"cells, norm {norm}", part) for norm, part in parts.items() if part.accuracies]
    lines += ["", "| timm model | accuracy |", "|---|---|"]
    for title, models in (("", SEEN_FAMILIES), (" (family not in training)", UNSEEN_FAMILIES)):
        result = zero_shot(ghn, build(models, ghn.config.num_classes), data)
        lines += [f"| `{name}`{title} | {100 * value:.1f} |" for name, value in result.accuracies.items()]
        lines += [f"| `{name}`{title} | failed: {reason} |" for name, reason in result.failed.items()]
        lines.append(f"| **mean{title}** | **{100 * result.mean:.1f}** |")
    return "\n".join(lines)


def training_section(config: TrainConfig, command: str, log: Path, rows: int = 12) -> str:
    """Markdown: how a GHN was trained, and its log at about ``rows`` points.

    Args:
        config: The run.
        command: What repeats it.
        log: The run's ``log.jsonl``.
        rows: Lines of the table.

    Raises:
        CheckpointError: The log is missing or empty.
    """
    if not log.is_file() or not (entries := [json.loads(line) for line in log.read_text().splitlines()]):
        raise CheckpointError(f"{log}: no log of a run")
    every = max(1, len(entries) // rows)
    shown = entries[every - 1 :: every]
    if shown[-1] != entries[-1]:
        shown.append(entries[-1])
    total = sum(config.families.values())
    shares = ", ".join(f"{name} {100 * each / total:.0f} %" for name, each in config.families.items())
    lines = [
        f"Training data: the training images of {config.data}, {config.image_size} × {config.image_size}. "
        f"Training architectures: random networks of the spaces {shares} (see `ghn_init.training.spaces`).",
        "",
        f"`{command}` (seed {config.seed}) with",
        "",
        "```json",
        json.dumps(config.to_dict(), indent=2),
        "```",
        "",
        "Means over 50 updates, on training images and training architectures: loss and accuracy of the bare",
        "prediction, loss before the last inner step.",
        "",
        "| update | CPU seconds | loss | after inner steps | accuracy (%) | skipped |",
        "|---|---|---|---|---|---|",
    ]
    for entry in shown:
        loss, last, accuracy = (entry.get(key, math.nan) for key in ("loss", "last_loss", "accuracy"))
        lines.append(
            f"| {entry['step']:,} | {entry['cpu_seconds']:,.0f} | {loss:.2f} | {last:.2f} "
            f"| {100 * accuracy:.1f} | {entry['skipped']} |"
        )
    return "\n".join(lines)


def _part(result: ZeroShot, drawn: list[Architecture], norm: str) -> ZeroShot:
    norms = {_label(i): each.args["norm"] for i, each in enumerate(drawn)}
    return ZeroShot({name: value for name, value in result.accuracies.items() if norms[name] == norm})


def _label(index: int) -> str:
    return f"network {index}"


def _row(name: str, result: ZeroShot) -> str:
    values = [100 * value for value in result.accuracies.values()]
    return (
        f"| {name} | {len(values)} | {100 * result.mean:.1f} ± {100 * result.standard_error:.1f} "
        f"| {statistics.median(values):.1f} | {max(values):.1f} | {min(values):.1f} |"
    )
