"""A report for people: the page, a notebook's cell, a terminal with rich."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ghn_init.assets import PAGE
from ghn_init.graph.page import Entry, page
from ghn_init.graph.palette import COLOURS, SYMBOLS, text_colour

if TYPE_CHECKING:
    from rich.console import RenderResult

    from ghn_init.report import InitReport

MARKS = {"predicted": "●", "kept": "○", "skipped": "✕"}


def as_page(report: InitReport, path: str | os.PathLike[str] | None = None) -> str:
    """One self-contained interactive page; see :meth:`ghn_init.InitReport.to_html`."""
    total = len(report.predicted) + len(report.kept) + len(report.skipped)
    facts = [
        ("GHN", str(report.ghn)),
        ("predicted", f"{len(report.predicted)} of {total} parameters"),
        ("kept", str(len(report.kept))),
        ("skipped", str(len(report.skipped))),
        ("graph", f"{len(report.graph)} nodes, {len(report.graph.edges)} edges"),
        *((stage, f"{seconds:.2f} s") for stage, seconds in report.timings.items()),
        *(("note", note) for note in report.notes),
    ]
    title = report.model or report.graph.name or "model"
    lead = report.summary.partition(": ")[2]
    return page(report.graph, path, title=title, lead=lead, facts=facts, parameters=_entries(report))


def _entries(report: InitReport) -> dict[str, Entry]:
    """Every parameter in the order of the model, and the graph's tensors that are made of several."""
    slots = {slot.name: (slot.shape, i) for i, node in enumerate(report.graph.nodes) for slot in node.params}
    accounts: list[tuple[str, Mapping[str, Any]]] = [
        *(("predicted", report.predicted), ("kept", report.kept), ("skipped", report.skipped))
    ]
    found: dict[str, Entry] = {}
    for status, names in accounts:
        for name, about in names.items():
            first = report.tied.get(name)
            shape, node = slots.get(name, slots.get(first or "", (None, None)))
            node = about if status == "predicted" else node
            found[name] = {"shape": shape, "size": report.sizes.get(name, 0), "node": node}
            found[name].update(status=status, why="" if status == "predicted" else str(about), tied=first)
            change = report.statistics.get(name)
            if change is not None:
                found[name]["before"] = None if change.before is None else change.before.to_dict()
                found[name]["after"] = None if change.after is None else change.after.to_dict()
    for name, (shape, node) in slots.items():
        if name not in found:
            found[name] = {"shape": shape, "node": node, "why": "computed from the parameters beside it"}
    order = dict.fromkeys([*report.sizes, *slots, *found])
    return {name: found[name] for name in order if name in found}


def as_cell(report: InitReport) -> str:
    """Compact HTML for a notebook: readable on light and dark, nothing of the model as markup."""
    parts = [
        f"<div class='ghn-init'><style>{_style()}</style><div><b>{_safe(report.model or 'model')}</b> "
        f"{_safe(report.summary.partition(': ')[2])}</div>{_bar(report)}",
        "<div class='ghn-types'>",
        *(_chip(name, count) for name, count in report.graph.type_counts.items()),
        "</div><table>",
        *(_row(kind, names, reason) for kind, names, reason in _reasons(report)),
        *(f"<tr><td>note</td><td colspan='2'>{_safe(note)}</td></tr>" for note in report.notes),
        "</table>",
        _names(report),
        "</div>",
    ]
    return "".join(parts)


_LISTED = 500
"""Names in a notebook's cell before the rest is counted."""


@cache
def _style() -> str:
    return (PAGE / "cell.css").read_text(encoding="utf-8")


def _safe(text: object) -> str:
    return html.escape(str(text))


def _bar(report: InitReport) -> str:
    """Shares of the values, each with its number as a tip and in the label."""
    shares = {
        kind: sum(report.sizes.get(name, 0) for name in getattr(report, kind) if name not in report.tied)
        for kind in MARKS
    }
    label = ", ".join(f"{count:,} values {kind}" for kind, count in shares.items())
    cells = "".join(
        f"<div class='{kind}' style='flex:{count}' title='{count:,} values {kind}'></div>"
        for kind, count in shares.items()
        if count
    )
    return f"<div class='ghn-bar' role='img' aria-label='{label}'>{cells}</div>"


def _chip(name: str, count: int) -> str:
    colour = COLOURS[name]
    style = f"background:{colour};color:{text_colour(colour)}"
    return f"<span style='{style}'>{SYMBOLS[name]} {name} {count}</span>"


def _reasons(report: InitReport) -> Iterator[tuple[str, list[str], str]]:
    for kind in ("kept", "skipped"):
        groups: dict[str, list[str]] = {}
        for name, reason in getattr(report, kind).items():
            groups.setdefault(reason, []).append(name)
        yield from ((kind, names, reason) for reason, names in groups.items())


def _row(kind: str, names: list[str], reason: str) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"<tr><td>{MARKS[kind]} {kind}</td><td>{_safe(shown)}</td><td>{_safe(reason)}</td></tr>"


def _names(report: InitReport) -> str:
    listed = [(kind, name) for kind in MARKS for name in getattr(report, kind)]
    rows = [
        f"<tr><td>{MARKS[kind]} {kind}</td><td>{_safe(name)}</td><td>{report.sizes.get(name, 0):,}</td></tr>"
        for kind, name in listed[:_LISTED]
    ]
    if len(listed) > _LISTED:
        rows.append(f"<tr><td colspan='3'>and {len(listed) - _LISTED} more</td></tr>")
    return f"<details><summary>{len(listed)} parameters</summary><table>{''.join(rows)}</table></details>"


def as_rich(report: InitReport) -> RenderResult:
    """What rich prints: the summary, a table of reasons, notes and times."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    styles = {"predicted": "green", "kept": "yellow", "skipped": "red"}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    types = ", ".join(f"{name} {count}" for name, count in report.graph.type_counts.items())
    size = f"{len(report.graph)} nodes, {len(report.graph.edges)} edges: {types}"
    head, _, rest = report.summary.partition(": ")
    table.add_row(Text("● predicted", "green"), Text(rest))
    table.add_row(Text("graph", "bold"), Text(size))
    for kind, names, reason in _reasons(report):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        table.add_row(
            Text(f"{MARKS[kind]} {kind}", styles[kind]), Text.assemble((shown, "bold"), f": {reason}")
        )
    for note in report.notes:
        table.add_row(Text("note", "cyan"), Text(note))
    times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in report.timings.items())
    table.add_row(Text("time", "dim"), Text(times, "dim"))
    head, _, rest = report.summary.partition(": ")
    yield Panel(
        table, title=Text(head, "bold"), subtitle=Text(rest), title_align="left", subtitle_align="left"
    )
