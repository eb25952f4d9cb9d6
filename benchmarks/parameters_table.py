"""Write the table of the page on parameters: what becomes of each kind, found by running real modules.

python benchmarks/parameters_table.py            # writes docs/parameters.md
python benchmarks/parameters_table.py --check    # fails if the page is not current
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from parameter_kinds import KINDS, Kind
from torch import nn

import ghn_init

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parameters.md"
START, END = "<!-- table: benchmarks/parameters_table.py -->", "<!-- end of table -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not current")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    current = f"{before}{START}\n\n{table()}\n{END}{after}"
    if check:
        return 0 if current == text else 1
    PAGE.write_text(current, encoding="utf-8")
    return 0


def table() -> str:
    """The tables of all groups, as Markdown."""
    logging.getLogger("ghn_init").setLevel(logging.ERROR)
    config = ghn_init.GHNConfig(hid=16, layers=1, heads=2, num_classes=10, max_shape=(16, 16, 7, 7))
    torch.manual_seed(0)
    ghn = ghn_init.GHN(config).eval()
    lines: list[str] = []
    for group, kinds in groupby(KINDS, key=lambda kind: kind.group):
        lines += [f"### {group}", "", "| kind | parameter | decision | why |", "|---|---|---|---|"]
        for kind in kinds:
            lines += [f"| {kind.name} | {row} | {kind.why} |" for row in rows(kind, ghn)]
        lines.append("")
    return "\n".join(lines)


def rows(kind: Kind, ghn: ghn_init.GHN) -> list[str]:
    """One row for each decision: the parameters that it holds for, and the decision."""
    model = kind.build()
    inputs = kind.inputs if isinstance(kind.inputs, tuple) else (kind.inputs,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = ghn_init.apply(model, ghn, example_inputs=inputs, head="predict")
    found: dict[str, list[str]] = {}
    for name in kind.shown:
        found.setdefault(decision(report, model, name), []).append(f"`{label(name)}`")
    return [f"{' '.join(dict.fromkeys(names))} | {what}" for what, names in found.items()]


def decision(report: Any, model: nn.Module, name: str) -> str:
    """What became of a parameter."""
    if name in report.predicted:
        return f"`{report.graph.nodes[report.predicted[name]].primitive}`"
    reason = {**report.kept, **report.skipped}[name]
    return f"kept: {reason}"


def label(name: str) -> str:
    """A parameter's name without the places that this page's modules give it."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


if __name__ == "__main__":
    sys.exit(main())
