"""What the comparison with ``torch.export`` found, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ghn_init.coverage.rows import Row, program_of
from ghn_init.coverage.tables import cell, table

_LONGEST = 110
"""Characters of a refusal: what follows names the model's own lines."""

INTRODUCTION = """\
Two readings of one model: the operations that the library records, and those of `torch.export`, made free of
writes in place. Both tell which parameter's operation feeds which other's. They **agree** if these relations
are equal, from the input to the output; a model on which they **differ** counts as failed. Models that
`torch.export` cannot read are not compared.

Many names stand for one **program** at several sizes: the same recorded operations, in the same order, on the
same operands, with the same parameters shared, and a graph of the same types and edges, whatever the shapes
and names are. The library reads all models of a program alike, and one of them is compared: *models told of*
counts those of the programs that were, and *programs* the different ones among the models measured since
programs are told apart.

```bash
ghn-init coverage timm --export --results benchmarks/results/coverage   # continues with what is not compared
```
"""


def export_tables(rows: Mapping[str, list[Row]]) -> str:
    """How many models of each suite were compared and agree, and why others were not compared."""
    compared = {suite: [row for row in found if "export" in row] for suite, found in rows.items()}
    lines = [_line(suite, rows[suite], tried) for suite, tried in compared.items() if tried]
    if not lines:
        return "Not compared yet.\n"
    head = ["suite", "models", "programs", "compared", "agree", "differ", "do not export"]
    head += ["models told of", "families told of"]
    parts = [table(head, lines, numbers=range(1, 9))]
    if refusals := _refusals(row for found in compared.values() for row in found):
        head = ["why `torch.export` does not read a model", "models", "for example"]
        parts.append(table(head, refusals, numbers=(1,)))
    return "\n".join(parts)


def _line(suite: str, rows: list[Row], tried: list[Row]) -> list[str]:
    """The counts of one suite: of its rows and of those that were compared."""
    graphs = [row for row in rows if "nodes" in row]
    said = [row["export"] for row in tried]
    known = {program_of(row) for row in tried if row["export"] != "fails"}
    told = [row for row in graphs if program_of(row) in known]
    read = [row["program"] for row in graphs if "program" in row]
    programs = f"{len(set(read))}" + ("" if len(read) == len(graphs) else f" among {len(read)}")
    counts = (len(tried), *map(said.count, ("agrees", "differs", "fails")), len(told))
    mine, families = map(_families, (told, graphs))
    return [suite, str(len(graphs)), programs, *map(str, counts), f"{mine} of {families}"]


def _families(rows: list[Row]) -> int:
    return len({row["family"] for row in rows})


def _refusals(rows: Iterable[Row]) -> list[list[str]]:
    models: dict[str, list[str]] = {}
    for row in rows:
        if row["export"] == "fails":
            models.setdefault(_general(row.get("export_refusal", "not noted")), []).append(row["model"])
    ordered = sorted(models.items(), key=lambda item: (-len(item[1]), item[0]))
    return [[cell(reason), str(len(names)), names[0]] for reason, names in ordered]


def _general(refusal: str) -> str:
    """A refusal without the sizes and names of one model."""
    reason = re.sub(r"^torch\.export failed on \S+: ", "", refusal)
    reason = re.sub(r"'[^']*'", "'…'", re.sub(r"\b[usz]*\d+\b", "N", reason))
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST].rsplit(" ", 1)[0] + " …"
