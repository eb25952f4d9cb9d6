"""The results as Markdown: a summary of all suites, and a list of the models of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ghn_init.coverage import suites
from ghn_init.coverage.export_tables import INTRODUCTION as EXPORT_INTRODUCTION
from ghn_init.coverage.export_tables import export_tables
from ghn_init.coverage.rows import Results, Row, is_available, program_of, succeeded
from ghn_init.coverage.tables import cell, percent, table
from ghn_init.coverage.tables import listing as searchable

MOST_MISSES = 60
"""Models of one suite in the table of misses; the list of the suite has all."""

INTRODUCTION = """\
# Coverage

<!-- Written by `ghn-init coverage --page`. Do not edit. -->

What `ghn_init.apply` makes of the models that people use. Every model is built on the meta device (for real
only where its own code cannot be), traced with inputs that the library finds itself, lowered to the 15
operation types and predicted with the GHN `bundled`, classifiers included, in a process of its own. A model
**succeeds** if nothing fails, every parameter is accounted for, and its graph is sane:

- every node with a parameter lies on a path to an output, and is fed by the input or by a learned table;
- a parameter that the outputs depend on has a node, or a reason why it keeps its value; one on which they do
  not depend has no node;
- a node's type is one that stands for the operation that takes its parameter, read from the recorded
  operations without the rules of the lowering;
- every predicted value has its parameter's shape and is finite;
- where the data flow was compared with that of `torch.export`, both agree.

```bash
ghn-init coverage all --results benchmarks/results/coverage --page docs/coverage.md
```

continues where it stopped; `--again` measures everything once more, `--failed` what failed, and
`--export` compares the data flow with that of `torch.export`, once for each program (with `--sample 50`, for
some models of all families).
*Elements* are numbers in parameters; *seconds* are CPU seconds of all stages but that comparison, on one
thread; *MB* is what the process took in addition.
Models that need a package or a file that is not there are listed, but not counted.
"""


def write_pages(folder: Path, page: Path) -> list[Path]:
    """Write the summary of all suites that have results, and beside it one list of models for each.

    Args:
        folder: Of the results.
        page: Of the summary; the lists are in a folder beside it that has the page's name without suffix.

    Returns:
        The files written.
    """
    rows = {suite: list(Results(folder, suite).rows.values()) for suite in suites.SUITES}
    rows = {suite: found for suite, found in rows.items() if found}
    lists = page.with_suffix("")
    lists.mkdir(parents=True, exist_ok=True)
    written = [page]
    page.write_text(_summary_page(rows, lists.name), encoding="utf-8")
    for suite, found in rows.items():
        written.append(lists / f"{suite}.md")
        written[-1].write_text(_suite_page(suite, found), encoding="utf-8")
    return written


def _summary_page(rows: Mapping[str, list[Row]], lists: str) -> str:
    parts = [
        INTRODUCTION,
        "## Suites\n",
        _suites(rows, lists),
        "## Why parameters keep their values\n",
        _reasons(found for suite in rows.values() for found in suite),
        "## Data flow beside `torch.export`\n",
        EXPORT_INTRODUCTION,
        export_tables(rows),
        "## Misses\n",
        _misses(rows, lists),
    ]
    return "\n".join(parts)


def _suites(rows: Mapping[str, list[Row]], lists: str) -> str:
    lines = []
    for suite, found in rows.items():
        targets = suites.targets(suite)
        for group in dict.fromkeys([*targets, *(row.get("group", "") for row in found)]):
            mine = [row for row in found if row.get("group", "") == group and is_available(row)]
            counts = _counts(mine) if mine else ["0", "not measured", *[""] * 4]
            if mine or group in targets:
                name = f"[{suite}]({lists}/{suite}.md) {group.replace('_', ' ')}".strip()
                lines.append([name, *counts, _target(targets.get(group))])
    head = ["suite", "models", "succeed", "share", "elements predicted (median)"]
    head += ["every parameter predicted", "beside `torch.export`", "target"]
    return table(head, lines, numbers=range(1, 7))


def _counts(rows: list[Row]) -> list[str]:
    good = [row for row in rows if succeeded(row)]
    shares = [row["predicted"][1] / row["elements"] for row in good if row["elements"]]
    full = sum(row["predicted"][0] == row["parameters"] for row in good)
    said = {program_of(row): row["export"] for row in rows if row.get("export") in ("agrees", "differs")}
    compared = [said.get(program_of(row)) for row in rows]
    agreed, differ = compared.count("agrees"), compared.count("differs")
    return [
        str(len(rows)),
        str(len(good)),
        percent(len(good), len(rows)),
        percent(median(shares), 1) if shares else "",
        str(full),
        f"{agreed} of {agreed + differ} agree" if agreed + differ else "",
    ]


def _target(least: float | None) -> str:
    return "" if least is None else f"{least:g}%"


def _reasons(rows: Iterable[Row]) -> str:
    parameters: Counter[tuple[str, str]] = Counter()
    models: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for row in rows:
        for kind in ("kept", "skipped"):
            for reason, (count, _, name) in row.get(kind, {}).items():
                parameters[kind, reason] += count
                models[kind, reason] += 1
                examples.setdefault((kind, reason), f"`{name}` of {row['model']}")
    lines = [
        [kind, cell(reason), str(parameters[kind, reason]), str(count), examples[kind, reason]]
        for (kind, reason), count in models.most_common()
    ]
    return table(["", "reason", "parameters", "models", "for example"], lines, numbers=(2, 3))


def _misses(rows: Mapping[str, list[Row]], lists: str) -> str:
    lines = []
    for suite, found in rows.items():
        missed = [row for row in found if not succeeded(row)]
        lines += [[f"{suite}: {row['model']}", cell(explain(row))] for row in missed[:MOST_MISSES]]
        if len(missed) > MOST_MISSES:
            more = f"and {len(missed) - MOST_MISSES} more: [all]({lists}/{suite}.md)"
            lines.append([f"{suite}", more])
    return table(["model", "what happened"], lines) if lines else "None.\n"


def _suite_page(suite: str, rows: list[Row]) -> str:
    versions = sorted(
        {library for row in rows if is_available(row) for library in row["versions"].split(", ")},
        key=str.lower,
    )
    lines = [_line(row) for row in rows]
    head = ["model", "family", "nodes", "parameters", "predicted", "elements", "predicted", "seconds", "MB"]
    return "\n".join(
        [
            "---\nsearch:\n  exclude: true\n---\n",
            f"# Coverage of {suite}\n",
            "<!-- Written by `ghn-init coverage --page`. Do not edit. -->\n",
            f"{len(rows)} models, measured with {', '.join(versions)}. [Summary](../{SUMMARY})\n",
            searchable([*head, "what was not predicted, and why"], lines, numbers=range(2, 9)),
        ]
    )


SUMMARY = "coverage.md"


def _line(row: Row) -> list[str]:
    stages = row.get("seconds", {})
    seconds = f"{math.fsum(stages[stage] for stage in stages if stage != 'export'):.1f}"
    memory = str(row.get("memory_mb", ""))
    first = [row["model"], row["family"]]
    if "elements" not in row:
        return [*first, "", "", "", "", "", seconds, memory, cell(explain(row))]
    parameters, elements = row["predicted"]
    return [
        *first,
        str(row["nodes"]),
        str(row["parameters"]),
        str(parameters),
        f"{row['elements']:,}",
        percent(elements, row["elements"]),
        seconds,
        memory,
        cell(explain(row)),
    ]


def explain(row: Row) -> str:
    """What of a model is not as it should be, or keeps its value, and why."""
    if "unavailable" in row:
        return f"not here: {row['unavailable']}"
    if "error" in row:
        error: dict[str, Any] = row["error"]
        stage = f" ({error['stage']})" if error["stage"] else ""
        return f"FAILED{stage}: {error['type']}: {error['message'][:300]}"
    parts = []
    if "problems" in row:
        count, *first = row["problems"]
        parts.append(f"FAILED: {count} problems of the graph: {first[0]}")
    for kind in ("kept", "skipped"):
        parts += [f"{count} × {reason}" for reason, (count, _, _) in row.get(kind, {}).items()]
    return "; ".join(parts)
