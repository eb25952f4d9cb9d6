"""What the rows of a comparison say: paired differences with confidence intervals; a table, a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghn_init.extras import needed

Row = Mapping[str, Any]
COLUMNS = (
    *("steps", "initialisation", "learning rate", "networks", "accuracy (%)"),
    *("difference (points, 95 %)", "not worse", "share of the steps"),
)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval (Student's t over ``number`` values).

    Attributes:
        mean: Mean of the values.
        half: Half of the interval's width; infinite for one value.
        number: How many values there were.
    """

    mean: float
    half: float
    number: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """The interval of some values."""
        listed = list(values)
        if len(listed) < 2:
            return cls(listed[0] if listed else math.nan, math.inf, len(listed))
        error = statistics.stdev(listed) / len(listed) ** 0.5
        return cls(statistics.fmean(listed), t_quantile(len(listed) - 1) * error, len(listed))

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.half:.1f}"


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t (Abramowitz & Stegun 26.7.5; within .1 % from 4 degrees of freedom)."""
    exact = {1: 12.706, 2: 4.303, 3: 3.182}
    if freedom in exact:
        return exact[freedom]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def accuracies(rows: Iterable[Row], init: str, steps: int) -> dict[str, float]:
    """Network → accuracy after ``steps`` updates, the mean over seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["init"] == init and row["steps"] == steps:
            found.setdefault(row["net"], []).append(row["accuracies"][str(steps)])
    return {net: statistics.fmean(values) for net, values in found.items()}


def best_reference(rows: Sequence[Row], references: Sequence[str], steps: int) -> str:
    """The reference of the best mean accuracy after ``steps`` updates, over the networks that all have."""
    found = {name: accuracies(rows, name, steps) for name in references}
    found = {name: each for name, each in found.items() if each}
    common = set.intersection(*(set(each) for each in found.values()))
    return max(found, key=lambda name: statistics.fmean(found[name][net] for net in common))


def seed_noise(rows: Iterable[Row], init: str, steps: int) -> float:
    """Pooled standard deviation between the seeds of a network; NaN with one seed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["init"] == init and row["steps"] == steps:
            found.setdefault(row["net"], []).append(row["accuracies"][str(steps)])
    spread = [statistics.variance(values) for values in found.values() if len(values) > 1]
    return statistics.fmean(spread) ** 0.5 if spread else math.nan


def steps_to(row: Row, accuracy: float) -> int | None:
    """The first mark of a run at which it has an accuracy; None if it never has."""
    marks = sorted((int(step), value) for step, value in row["accuracies"].items())
    return next((step for step, value in marks if value >= accuracy), None)


def table(rows: Sequence[Row], references: Sequence[str] = ("kaiming", "default")) -> str:
    """Markdown: each initialisation's accuracy, and its paired difference to the better of the references.

    *Not worse* counts networks whose accuracy is not below the reference's by more than twice the noise
    between seeds (with one seed: not below it at all). *Steps* is the median, over networks, of the
    updates to the accuracy that the reference ends with at the largest budget, as a share of that budget.
    """
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    budgets = sorted({row["steps"] for row in rows})
    for steps in budgets:
        reference = best_reference(rows, references, steps)
        base = accuracies(rows, reference, steps)
        noise = seed_noise(rows, reference, steps)
        slack = 0.0 if math.isnan(noise) else 2 * noise
        for init in dict.fromkeys(row["init"] for row in rows):
            own = accuracies(rows, init, steps)
            nets = [net for net in own if net in base]
            if not nets:
                continue
            differences = [own[net] - base[net] for net in nets]
            rates = sorted({row["lr"] for row in rows if row["init"] == init and row["steps"] == steps})
            told = "reference" if init == reference else str(Interval.of(differences))
            fine = sum(each >= -slack for each in differences) / len(nets)
            share = _median_share(rows, init, base, steps) if steps == budgets[-1] else ""
            mean = 100 * statistics.fmean(own[net] for net in nets)
            shown = ", ".join(f"{rate:g}" for rate in rates)
            cells = steps, f"`{init}`", shown, len(nets), f"{mean:.1f}", told, f"{100 * fine:.0f} %", share
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _median_share(rows: Sequence[Row], init: str, goal: Mapping[str, float], steps: int) -> str:
    shares = [
        math.inf if (found := steps_to(row, goal[row["net"]])) is None else found / steps
        for row in rows
        if row["init"] == init and row["steps"] == steps and row["net"] in goal
    ]
    median = statistics.median(shares)
    return "never" if math.isinf(median) else f"{median:.2f}"


def plot(rows: Sequence[Row], path: str | Path, references: Sequence[str] = ("kaiming", "default")) -> Path:
    """Saves a figure: mean accuracy along the longest training, and the paired differences at its end."""
    with needed("plot", "a picture"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    steps = max(row["steps"] for row in rows)
    rows = [row for row in rows if row["steps"] == steps]
    reference = best_reference(rows, references, steps)
    base = accuracies(rows, reference, steps)
    inits = list(dict.fromkeys(row["init"] for row in rows))
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    along, ends = figure.subplots(1, 2)
    for number, init in enumerate(inits):
        own = [row for row in rows if row["init"] == init]
        marks = sorted({int(mark) for row in own for mark in row["accuracies"]})
        means = [100 * statistics.fmean(row["accuracies"][str(mark)] for row in own) for mark in marks]
        along.plot(marks, means, marker="o", markersize=4, label=init, color=f"C{number}")
        if init != reference:
            accuracy = accuracies(rows, init, steps)
            differences = [100 * (accuracy[net] - base[net]) for net in accuracy if net in base]
            spread = [0.3 * (index / max(1, len(differences) - 1) - 0.5) for index in range(len(differences))]
            ends.scatter([number + each for each in spread], sorted(differences), s=12, color=f"C{number}")
            interval = Interval.of(differences)
            half = 0 if math.isinf(interval.half) else interval.half
            ends.errorbar(number, interval.mean, half, fmt="_", color="black", capsize=4, markersize=16)
    along.set(xlabel="updates", ylabel="mean accuracy (%)", title=f"{len(base)} networks")
    along.legend(frameon=False)
    ends.axhline(0, color="grey", linewidth=0.8)
    ends.set_xticks(range(len(inits)), inits, rotation=20, ha="right")
    ends.set(ylabel=f"points above {reference}", title=f"after {steps} updates: networks, mean, 95 %")
    for axes in (along, ends):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return Path(path)
