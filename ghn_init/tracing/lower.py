"""From a recorded ``torch.fx`` graph to an :class:`~ghn_init.graph.ArchGraph`.

The recording is read once, in order. Each value carries the graph nodes that reach it through wire
(:class:`~ghn_init.tracing.flow.Flow`), so that operations which are no primitive are contracted on the way,
and every edge runs from an earlier to a later node. Rules (:mod:`ghn_init.tracing.rules`) look at the
operation only, never at the class of a module or the name of a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from torch import fx

from ghn_init.graph import ArchGraph
from ghn_init.tracing.builder import INPUT, GraphBuilder, Shape
from ghn_init.tracing.conventions import Convention, find_convention
from ghn_init.tracing.finish import finish
from ghn_init.tracing.flow import CONSTANT, Flow, union
from ghn_init.tracing.lookahead import Lookahead
from ghn_init.tracing.rules import Call, find_rule
from ghn_init.tracing.rules.functions import LAYOUT, base_function, is_whole


class Recorded(Protocol):
    """What lowering needs of a recording; every front-end makes one."""

    graph: fx.Graph
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str]


def lower(recording: Recorded, convention: str = "clean", *, name: str = "") -> ArchGraph:
    """Lower a recording to the 15 primitives.

    Args:
        recording: Operations of one forward, with the shapes and names of the parameters.
        convention: ``clean``, or ``ghn3`` for the edges under which the published GHN-3 and GHN-2 were
        trained.
        name: What was recorded, for people.

    Returns:
        The graph. Parameters that no node owns are in ``unreached``, each with the reason.

    Raises:
        TraceError: The convention is unknown.
    """
    chosen = find_convention(convention)
    builder = GraphBuilder(recording.parameters)
    returned = _read(recording.graph, recording.parameters, builder, chosen)
    return finish(builder, returned, chosen, dict(recording.tied), name or getattr(recording, "name", ""))


def _read(
    graph: fx.Graph, parameters: Mapping[str, Shape], builder: GraphBuilder, convention: Convention
) -> tuple[int, ...]:
    """Read the recording into the builder. Returns the nodes that reach the model's outputs."""
    ahead = Lookahead(graph, parameters)
    flows: dict[fx.Node, Flow] = {}
    for node in graph.nodes:
        if node.op == "output":
            outputs = Call(node, flows, builder, ahead, convention).flow(list(node.all_input_nodes))
            results = [flows.get(value, CONSTANT) for value in node.all_input_nodes]
            builder.keep((name for flow in results for name in flow.params), "an output by itself")
            return outputs.sources or union(flow.indices for flow in results)
        if node.op == "placeholder":
            flow = Flow(sources=(INPUT,))
        elif node.op == "get_attr":
            flow = Flow(params=(str(node.target),)) if node.target in parameters else CONSTANT
        else:
            flow = _call(Call(node, flows, builder, ahead, convention))
        if is_whole(node):
            builder.choosing.update(flow.sources)
            flow = _as_index(flow)
        flows[node] = flow
    return ()


def _call(call: Call) -> Flow:
    function = base_function(call.node.target)
    if function in LAYOUT:
        return call.flow(call.arg(0, "input", call.arg(0, "self")))
    rule = find_rule(function)
    return rule(call) if rule is not None else call.wire()


def _as_index(flow: Flow) -> Flow:
    if not flow.sources:
        return flow
    return replace(
        flow, sources=(), indices=union((flow.sources, flow.indices)), params=(), open=None, kind=""
    )
