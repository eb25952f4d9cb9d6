"""``ghn-init trace`` and ``ghn-init show``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_init.cli.errors import CommandError
from ghn_init.cli.models import SPEC_HELP, build, build_without_weights, parse_inputs, parse_options
from ghn_init.cli.output import tell, tell_written
from ghn_init.graph import ArchGraph

if TYPE_CHECKING:
    from ghn_init import InitReport

REPORT_FILE = "report.json"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``trace`` and ``show`` to the command line."""
    trace = commands.add_parser(
        "trace",
        parents=[common],
        help="turn a model into its graph of 15 operation types",
        description="Trace a model into its graph and print it. The model is never run on real data.",
        epilog=SPEC_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(trace)
    add_tracing_arguments(trace)
    trace.add_argument(
        "--format", choices=["summary", "table", "json"], default="summary", help="what to print"
    )
    trace.add_argument("--out", metavar="FILE", help="write the graph as JSON to this file")
    add_picture_argument(trace)
    trace.set_defaults(run=run_trace)

    show = commands.add_parser(
        "show",
        parents=[common],
        help="print or draw a report or graph that was written before",
        description="Print or draw what apply or trace wrote: a folder, a report.json or a graph's JSON.",
    )
    show.add_argument("file", type=Path, help="folder of apply, report.json, or graph JSON")
    show.add_argument("--nodes", action="store_true", help="also print every node of the graph")
    add_picture_argument(show)
    show.set_defaults(run=run_show)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which model, how to build it and what it takes."""
    parser.add_argument("model", metavar="MODEL", help="the model; see below")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="option of the model (repeatable)"
    )
    parser.add_argument(
        "--auto-class",
        metavar="CLASS",
        default="AutoModel",
        help="transformers only: class that builds the model, e.g. AutoModelForMaskedLM",
    )
    parser.add_argument(
        "--input",
        metavar="SIZES",
        action="append",
        default=[],
        help="shape of an input if it cannot be found: 1,3,224,224 or int:1,16 (repeatable)",
    )


def add_tracing_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to do with parts that cannot be traced."""
    parser.add_argument(
        "--leaf", metavar="PATH", action="append", help="module that tracing does not enter (repeatable)"
    )
    parser.add_argument(
        "--keep-untraceable",
        action="store_true",
        help="where tracing fails, go on with what it reached instead of stopping",
    )


def tracing_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the arguments of :func:`add_tracing_arguments` mean for :func:`ghn_init.trace`."""
    return {"leaf": options.leaf, "on_untraceable": "keep" if options.keep_untraceable else "raise"}


def add_picture_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that asks for a picture of the graph."""
    parser.add_argument("--picture", metavar="FILE", help="draw the graph to this .png, .svg or .pdf")
    parser.add_argument("--html", metavar="FILE", help="write one interactive page to this file")


def build_model(options: argparse.Namespace, *, weights: bool) -> Any:
    """The model that the arguments of :func:`add_model_arguments` describe."""
    builder = build if weights else build_without_weights
    return builder(options.model, parse_options(options.set), auto_class=options.auto_class)


def run_trace(options: argparse.Namespace) -> None:
    """Trace a model; print, write or draw its graph."""
    import ghn_init

    model = build_model(options, weights=False)
    graph = ghn_init.trace(model, parse_inputs(options.input), **tracing_options(options))
    if options.format == "json":
        print(json.dumps(graph.to_dict(), indent=1))
    else:
        print(describe(graph, nodes=options.format == "table"))
    if options.out:
        Path(options.out).write_text(json.dumps(graph.to_dict()), encoding="utf-8")
    if options.picture:
        graph.plot(options.picture)
    if options.html:
        graph.to_html(options.html)
    if options.format != "json":
        tell_written(options.out, options.picture, options.html)


def run_show(options: argparse.Namespace) -> None:
    """Print or draw a written report or graph."""
    path = options.file / REPORT_FILE if options.file.is_dir() else options.file
    report, graph = _read(read_json(path), path)
    if report is None:
        print(describe(graph))
    else:
        tell(report)
    if options.nodes:
        print(node_table(graph))
    if options.picture:
        graph.plot(options.picture)
    if options.html:
        (report or graph).to_html(options.html)
    tell_written(options.picture, options.html)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        CommandError: There is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CommandError(f"{path} does not exist") from error
    except ValueError as error:
        raise CommandError(f"{path} is not a JSON file: {error}") from error


def _read(data: Any, path: Path) -> tuple[InitReport | None, ArchGraph]:
    from ghn_init import InitReport

    if not isinstance(data, dict) or not ("architecture" in data or "edges" in data):
        raise CommandError(f"{path} is neither a report nor a graph of ghn-init")
    try:
        graph = ArchGraph.from_dict(data.get("architecture", data))
        return InitReport.from_dict(data, graph) if "architecture" in data else None, graph
    except (KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def describe(graph: ArchGraph, *, nodes: bool = False) -> str:
    """A graph as text: its size, how often each operation occurs, what no node owns; on demand every node."""
    lines = [repr(graph), ""]
    lines += [f"  {primitive:9} {count:6}" for primitive, count in graph.type_counts.items()]
    if graph.tied:
        lines += ["", f"  parameters tied to another: {len(graph.tied)}"]
    if graph.unreached:
        lines += ["", f"  parameters that belong to no node: {len(graph.unreached)}"]
        lines += [f"    {name}: {reason}" for name, reason in graph.unreached.items()]
    if nodes:
        lines += ["", node_table(graph)]
    return "\n".join(lines)


def node_table(graph: ArchGraph) -> str:
    """One line per node: index, operation, shape, the nodes that feed it, parameters."""
    rows = [("node", "type", "shape", "from", "parameters")]
    for index, (node, sources) in enumerate(zip(graph.nodes, graph.predecessors(), strict=True)):
        shape = "x".join(map(str, node.shape)) if node.shape else "-"
        names = ", ".join(slot.name for slot in node.params) or node.module or "-"
        rows.append((str(index), node.primitive, shape, ",".join(map(str, sources)) or "-", names))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    )
