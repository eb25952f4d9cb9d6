"""The page that shows the coverage results."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

INTRODUCTION = """\
# Coverage

<!-- Written by benchmarks/coverage_table.py from benchmarks/results/coverage.jsonl. Do not edit. -->

`ghn_init.apply` with the GHN {ghn} on every classification model of torchvision, models of all families of
timm (with 10 classes, as the GHN has), and small random configurations of transformers models. *Parameters*
are tensors; *values* is the share of the model's numbers that were predicted; *seconds* are CPU seconds of
`apply` (one thread), tracing included. A kept parameter keeps the model's own initial value; each has its
reason in the report.

Reproduce with `python benchmarks/coverage_table.py --again`.
"""

SUMMED = ("predicted", "parameters", "predicted_values", "values")


def write_page(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the summary, the reasons and the table as Markdown."""
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    ghns = " and ".join(f"`{ghn}`" for ghn in dict.fromkeys(row["ghn"] for row in rows if "ghn" in row))
    parts = [INTRODUCTION.format(ghn=ghns), _summary(rows, suites), _failures(rows), _reasons(rows)]
    parts += [_table(suite, [row for row in rows if row["suite"] == suite]) for suite in suites]
    path.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _summary(rows: list[dict[str, Any]], suites: list[str]) -> str:
    lines = [
        "| suite | models | failed | every parameter predicted | parameters predicted | values predicted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for suite in suites:
        mine = [row for row in rows if row["suite"] == suite]
        good = [row for row in mine if "error" not in row]
        full = [row for row in good if row["predicted"] == row["parameters"]]
        total = {key: sum(row[key] for row in good) for key in SUMMED}
        share = _percent(total["predicted"], total["parameters"])
        numbers = f"{len(mine) - len(good)} | {len(full)} | {share} | {_share(total)}"
        lines.append(f"| {suite} | {len(mine)} | {numbers} |")
    return "\n".join([*lines, ""])


def _failures(rows: list[dict[str, Any]]) -> str:
    failed = [row for row in rows if "error" in row]
    if not failed:
        return ""
    lines = ["## Failed", "", "| model | error |", "|---|---|"]
    lines += [f"| {row['model']} | {_cell(row['error'])} |" for row in failed]
    return "\n".join([*lines, ""])


def _reasons(rows: list[dict[str, Any]]) -> str:
    tensors: Counter[tuple[str, str]] = Counter()
    models: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for kind in ("kept", "skipped"):
            reasons = Counter(map(_general, row.get(kind, {}).values()))
            for reason, count in reasons.items():
                tensors[kind, reason] += count
                models[kind, reason] += 1
    if not tensors:
        return ""
    lines = [
        "## Why parameters were not predicted",
        "",
        "| | reason | parameters | models |",
        "|---|---|---:|---:|",
    ]
    for (kind, reason), count in tensors.most_common(25):
        lines.append(f"| {kind} | {_cell(reason)} | {count} | {models[kind, reason]} |")
    return "\n".join([*lines, ""])


def _table(suite: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"## {suite}",
        "",
        "| model | nodes | parameters | predicted | kept | skipped | values | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = row["model"].partition(":")[2]
        if "error" in row:
            lines.append(f"| {name} | failed | | | | | | |")
            continue
        cells = [row["nodes"], row["parameters"], row["predicted"], len(row["kept"]), len(row["skipped"])]
        numbers = " | ".join(map(str, cells))
        lines.append(f"| {name} | {numbers} | {_share(row)} | {row['cpu_seconds']:.1f} |")
    return "\n".join([*lines, ""])


def _share(row: dict[str, Any]) -> str:
    return _percent(row["predicted_values"], row["values"])


def _percent(part: int, whole: int) -> str:
    """Rounded down: 100% means all of them."""
    return f"{math.floor(1000 * part / max(1, whole)) / 10:.1f}%"


def _general(reason: str) -> str:
    """A reason without the sizes and module paths of one model."""
    reason = re.sub(r" in '[^']*'|(?<=the weight) \S+", "", reason)
    return re.sub(r"\b\d+\b", "N", reason)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
