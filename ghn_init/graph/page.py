"""One self-contained HTML page: a graph with its blocks folded, and what was done to every parameter.

Nothing is fetched by it, and no text of a model can become markup: all data is one block of JSON, which the
page's scripts only ever set as text, and a content security policy lets nothing run but these scripts.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from ghn_init.assets import PAGE
from ghn_init.graph.arch_graph import ArchGraph
from ghn_init.graph.palette import COLOURS, OUTLINES, SYMBOLS, text_colour
from ghn_init.graph.primitives import PRIMITIVES

LIBRARIES = ("d3.min.js", "dagre.min.js")
SCRIPTS = (
    "model.js",
    "shapes.js",
    "layout.js",
    "overview.js",
    "draw.js",
    "details.js",
    "parameters.js",
    "main.js",
)
LICENCES = ("LICENSE-d3", "LICENSE-dagre")


class Entry(TypedDict, total=False):
    """What the page tells of one parameter.

    Attributes:
        shape: Of the parameter; None where only its size is known.
        size: Number of elements; that of the shape if not given.
        node: Index of the node that owns it.
        status: ``predicted``, ``kept`` or ``skipped``.
        why: The reason.
        tied: First name of the tensor.
        before: Statistics, as :meth:`TensorStatistics.to_dict` gives them.
        after: The same, after the write.
    """

    shape: Sequence[int] | None
    size: int
    node: int | None
    status: str
    why: str
    tied: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def page(
    graph: ArchGraph,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    lead: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
    parameters: Mapping[str, Entry] | None = None,
) -> str:
    """The page of a graph.

    Args:
        graph: What to draw.
        path: File to write it to.
        title: Heading; the graph's name if not given.
        lead: One line beside it; the graph's size if not given.
        facts: Rows of the summary; those of the label ``note`` are remarks.
        parameters: Name → what is known of it; the graph's own if not given.

    Returns:
        The HTML.
    """
    title = title or graph.name or "architecture graph"
    lead = lead or f"{len(graph)} nodes, {len(graph.edges)} edges, {len(graph.slots)} parameters"
    data = _data(graph, title, facts, _of_graph(graph) if parameters is None else parameters)
    scripts = _scripts()
    style = _read("page.css")
    made = _fill(
        _read("page.html"),
        title=html.escape(title),
        lead=html.escape(lead),
        style=style,
        style_hash=_hash(style),
        script_hashes=" ".join(_hash(script) for script in scripts),
        data=_inert(json.dumps(data, separators=(",", ":"), allow_nan=False)),
        scripts="\n".join([_licences(), *(f"<script>{script}</script>" for script in scripts)]),
    )
    if path is not None:
        Path(path).write_text(made, encoding="utf-8", errors="replace")
    return made


def _of_graph(graph: ArchGraph) -> dict[str, Entry]:
    return {
        slot.name: {"shape": slot.shape, "node": index}
        for index, node in enumerate(graph.nodes)
        for slot in node.params
    }


def _data(
    graph: ArchGraph, title: str, facts: Sequence[tuple[str, str]], parameters: Mapping[str, Entry]
) -> dict[str, Any]:
    owned: list[list[int]] = [[] for _ in graph.nodes]
    for number, entry in enumerate(parameters.values()):
        if (node := entry.get("node")) is not None:
            owned[node].append(number)
    return {
        "title": title,
        "facts": [list(row) for row in facts],
        "made": "Made by ghn_init. The picture is drawn with D3 and dagre, whose licences are in this file.",
        "measured": any(entry.get("before") or entry.get("after") for entry in parameters.values()),
        "primitives": [
            [name, COLOURS[name], text_colour(COLOURS[name]), SYMBOLS[name], OUTLINES[name]]
            for name in PRIMITIVES
        ],
        "nodes": [
            {"p": node.type_id, "o": node.op, "m": node.place, "s": node.shape, "q": indices}
            for node, indices in zip(graph.nodes, owned, strict=True)
        ],
        "edges": [index for edge in graph.edges for index in edge],
        "params": [_parameter(name, entry) for name, entry in parameters.items()],
    }


def _parameter(name: str, entry: Entry) -> dict[str, Any]:
    shape = entry.get("shape")
    size = entry.get("size", 0 if shape is None else math.prod(shape))
    return {
        **{"n": name, "s": shape, "e": size, "d": entry.get("node")},
        **{"k": entry.get("status", ""), "w": entry.get("why", ""), "t": entry.get("tied")},
        **{"b": _statistics(entry.get("before")), "a": _statistics(entry.get("after"))},
    }


def _statistics(found: Mapping[str, Any] | None) -> list[Any] | None:
    if found is None:
        return None
    numbers = [float(f"{found[key]:.6g}") for key in ("mean", "std", "norm", "minimum", "maximum")]
    return [found["count"], *numbers, found["not_finite"], list(found["histogram"])]


def _inert(text: str) -> str:
    """JSON that no HTML parser can take for markup."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    """The source expression of a content security policy that allows exactly this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


@cache
def _scripts() -> tuple[str, ...]:
    # A source map's address would be looked up by developer tools.
    libraries = [_read(name).partition("\n//# sourceMappingURL=")[0] for name in LIBRARIES]
    own = "\n".join(_read(name) for name in SCRIPTS)
    return (*libraries, f"(() => {{\n{own}\n}})();")


@cache
def _licences() -> str:
    texts = "\n\n".join(
        f"{library}:\n{_read(licence)}" for library, licence in zip(LIBRARIES, LICENCES, strict=True)
    )
    return f"<!--\n{texts.replace('--', '- -')}\n-->"


def _fill(template: str, **parts: str) -> str:
    """Each ``{name}`` replaced once; what is put in is not looked at again."""
    made, rest = [], template
    while rest:
        ends = {name: rest.find(f"{{{name}}}") for name in parts}
        found = {name: at for name, at in ends.items() if at >= 0}
        if not found:
            break
        name = min(found, key=lambda each: found[each])
        made += [rest[: found[name]], parts[name]]
        rest = rest[found[name] + len(name) + 2 :]
    return "".join([*made, rest])
