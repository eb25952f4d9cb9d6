"""What a training run says of its updates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
        seconds: CPU seconds since the run was started or continued.
    """
    last = recent[-1]
    row: dict[str, Any] = {"step": last.step, "cpu_seconds": round(seconds, 1), "lr": last.lr}
    for key in ("loss", "last_loss", "accuracy", "grad_norm"):
        values = [value for entry in recent if math.isfinite(value := asdict(entry)[key])]
        if values:
            row[key] = round(statistics.fmean(values), 4)
    return {**row, "skipped": last.skipped}
