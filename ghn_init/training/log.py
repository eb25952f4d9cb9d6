"""What a training run says of its updates."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ghn_init.errors import CheckpointError

LOG = "log.jsonl"
"""Name of the file in a run's folder: one JSON object a line."""


@dataclass(frozen=True)
class StepLog:
    """One update: means over its meta-batch.

    Attributes:
        step: Number of the update, from 1.
        loss: Loss of the bare predictions; NaN if every architecture was skipped.
        last_loss: Loss before the last inner step.
        accuracy: Accuracy of the bare predictions on their first batch; NaN where targets are no classes.
        lr: Learning rate.
        grad_norm: Norm of the GHN's gradient before clipping.
        skipped: Architectures skipped so far (not finite, cannot be built, cannot be traced).
    """

    step: int
    loss: float
    last_loss: float
    accuracy: float
    lr: float
    grad_norm: float
    skipped: int


def mean_row(recent: Sequence[StepLog], seconds: float) -> dict[str, Any]:
    """One line of the log: means over recent updates, as far as they are finite.

    Args:
        recent: Updates, the last one last.
        seconds: CPU seconds of the run.
    """
    last = recent[-1]
    row: dict[str, Any] = {"step": last.step, "cpu_seconds": round(seconds, 1), "lr": last.lr}
    for key in ("loss", "last_loss", "accuracy", "grad_norm"):
        values = [value for entry in recent if math.isfinite(value := asdict(entry)[key])]
        if values:
            row[key] = round(statistics.fmean(values), 4)
    return {**row, "skipped": last.skipped}


def append(folder: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to the log of a run.

    Raises:
        CheckpointError: It cannot be written; no checkpoint is lost by that.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"{folder / LOG}: cannot be written ({error}); the run can go on from its last checkpoint"
        ) from error


def rewind(folder: Path, step: int) -> float:
    """Takes out of the log what a run that was stopped did after its checkpoint, and half a line at its end.

    Returns:
        CPU seconds up to the last line that is kept.
    """
    path = folder / LOG
    if not path.is_file():
        return 0.0
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = [row for row in map(_parsed, text.splitlines()) if row is not None and row["step"] <= step]
    kept = "".join(json.dumps(row) + "\n" for row in rows)
    if kept != text:
        partial = folder / f".{LOG}.partial"
        partial.write_text(kept, encoding="utf-8")
        partial.replace(path)
    return rows[-1]["cpu_seconds"] if rows else 0.0


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"step", "cpu_seconds"} <= row.keys() else None
