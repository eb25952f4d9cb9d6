"""Which models are one program at several sizes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import fx
from torch.fx.node import map_arg

from ghn_init.graph import ArchGraph
from ghn_init.tracing.recorder import Recording

_LENGTH = 16


def program_digest(recording: Recording, graph: ArchGraph) -> str:
    """A digest of what a model computes, whatever its sizes and names are.

    Models with one digest run the same operations in the same order on the same operands, with the same
    parameters shared, and have graphs of the same types and edges. So their recorded data flow is the same,
    parameter by parameter.

    Returns:
        16 hexadecimal digits.
    """
    index: dict[fx.Node, int] = {}
    lines: list[Any] = []
    for node in recording.graph.nodes:
        operands: list[int] = []
        map_arg((node.args, node.kwargs), lambda operand, to=operands: to.append(index[operand]))
        index[node] = len(index)
        if node.op == "get_attr":
            lines.append(["parameter" if node.target in recording.parameters else "value"])
        else:
            lines.append([operation(node) or node.op, *operands])
    lines += [[node.primitive for node in graph.nodes], sorted(graph.edges)]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:_LENGTH]


def operation(node: fx.Node) -> str:
    """Name of the operation of a call, without its overload; empty for other nodes."""
    return str(getattr(node.target, "__name__", "")).split(".")[0] if node.op == "call_function" else ""
