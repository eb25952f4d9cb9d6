"""A ranking as a table, for terminals and for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderResult

    from ghn_init.ranking.ranking import Ranked, Ranking


def as_text(ranking: Ranking) -> str:
    """Aligned columns, one line for each candidate, and the reasons of those that failed."""
    rows = _rows(ranking)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        cells[1] = row[1].ljust(widths[1])
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *(f"not ranked: {name}: {why}" for name, why in ranking.failed.items())])


def as_html(ranking: Ranking) -> str:
    """The same as an HTML table."""
    head, *body = [[html.escape(text) for text in row] for row in _rows(ranking)]
    parts = ["<table><thead><tr>", *(f"<th>{text}</th>" for text in head), "</tr></thead><tbody>"]
    parts += ["<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in body]
    parts.append("</tbody></table>")
    if ranking.failed:
        failed = (f"<li>{html.escape(name)}: {html.escape(why)}</li>" for name, why in ranking.failed.items())
        parts += ["<p>Not ranked:</p><ul>", *failed, "</ul>"]
    return "".join(parts)


def as_rich(ranking: Ranking) -> RenderResult:
    """The same as a table of rich, names and reasons as plain text."""
    from rich.table import Table
    from rich.text import Text

    head, *body = _rows(ranking)
    table = Table()
    for text in head:
        table.add_column(Text(text), justify="left" if text == "candidate" else "right")
    for row in body:
        table.add_row(*map(Text, row))
    yield table
    yield from (Text(f"not ranked: {name}: {why}", "red") for name, why in ranking.failed.items())


def _rows(ranking: Ranking) -> list[list[str]]:
    entries = [entry for entry in ranking if entry.error is None]
    timed = any(entry.latency is not None for entry in entries)
    estimated = any(entry.accuracy not in (None, entry.score) for entry in entries)
    proxies = sorted({name for entry in entries for name in entry.proxies})
    head = [
        "#",
        "candidate",
        "score %",
        "95 %",
        "best",
        *(["correct %"] if estimated else []),
        "params",
        "FLOPs",
        *(["ms"] if timed else []),
        *proxies,
    ]
    return [head, *(_row(place, entry, estimated, timed, proxies) for place, entry in enumerate(entries, 1))]


def _row(place: int, entry: Ranked, estimated: bool, timed: bool, proxies: list[str]) -> list[str]:
    row = [
        str(place),
        entry.name,
        f"{100 * entry.score:.1f}",
        f"{100 * entry.low:.1f}-{100 * entry.high:.1f}",
    ]
    row.append(f"{entry.best:.0%}")
    if estimated:
        row.append("" if entry.accuracy is None else f"{100 * entry.accuracy:.1f}")
    row += [_short(entry.parameters), _short(entry.flops)]
    if timed:
        row.append("" if entry.latency is None else f"{entry.latency:.2f}")
    return row + [f"{entry.proxies[name]:.4g}" if name in entry.proxies else "" for name in proxies]


def _short(number: float | None) -> str:
    if number is None:
        return ""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)
