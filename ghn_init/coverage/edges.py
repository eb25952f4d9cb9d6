"""The recorder's data flow against that of ``torch.export``, read without the library's own front-ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from ghn_init.coverage.program import operation
from ghn_init.coverage.writes import follow_writes
from ghn_init.errors import TraceError
from ghn_init.tracing.exported import export_program
from ghn_init.tracing.parts import with_forward
from ghn_init.tracing.recorder import Recording
from ghn_init.tracing.trace import record_model

Relation = set[tuple[str, str]]
# Factories that take a shape and a dtype from a tensor, but no value.
_FRESH = {
    *("empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full"),
    *("empty_permuted", "rand_like", "randn_like", "randint_like"),
}
# Operations that take no value but the first: of the others only the shape or the dtype.
_LIKE = {"type_as", "expand_as", "view_as", "reshape_as"}
# Tangents of constants are zeros, and a product with them carries no value.
_ZEROS = {"zeros", "zeros_like", "new_zeros", "_efficientzerotensor"}
_OF_ZEROS = {"expand", "view", "t", "transpose", "permute", "alias", "detach", "clone", "_to_copy"}
_PRODUCTS = {"mul", "mm", "bmm", "matmul"}
_INPUT, _OUTPUT = "input", "output"
_LISTED = 8


@dataclass(frozen=True)
class Comparison:
    """The recorded data flow between parameters beside that of ``torch.export``.

    Attributes:
        problems: One line for each connection that only one of the two has, the first few of each kind.
        refusal: Why ``torch.export`` cannot read the model; empty if it can.
    """

    problems: list[str] = field(default_factory=list)
    refusal: str = ""


def compare_edges(model: nn.Module, example_inputs: Any = None) -> Comparison:
    """Compare the recorded data flow between parameters with that of ``torch.export``.

    Both run on weightless copies, so that the model may be on the meta device.

    Args:
        model: Any module; neither run nor changed.
        example_inputs: As for :func:`ghn_init.trace`.

    Raises:
        TraceError: The library itself cannot record the model.
    """
    recording = record_model(model, example_inputs)
    model = with_forward(model)
    try:
        theirs = exported_relation(model, *recording.inputs)
    except TraceError as error:
        return Comparison(refusal=str(error))
    ours = recorded_relation(recording)
    problems = [] if ours else ["no parameter takes part in the recording"]
    for label, extra in (("only in the recording", ours - theirs), ("only in the export", theirs - ours)):
        lines = [f"{source} -> {target} is {label}" for source, target in sorted(extra)]
        problems += lines[:_LISTED]
        if len(lines) > _LISTED:
            problems.append(f"and {len(lines) - _LISTED} more {label}")
    return Comparison(problems)


def recorded_relation(recording: Recording) -> Relation:
    """:func:`feeds` of a recording."""
    sources = {node: _INPUT for node in recording.graph.nodes if node.op == "placeholder"}
    for node in recording.graph.nodes:
        if node.op == "get_attr" and node.target in recording.parameters:
            sources[node] = str(node.target)
    return feeds(recording.graph, sources)


def exported_relation(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, decomposed: bool = False
) -> Relation:
    """:func:`feeds` of the exported model, made free of writes in place.

    Args:
        model: Any module.
        args: Positional inputs.
        kwargs: Keyword inputs.
        decomposed: Let ``torch.export`` trace its graph again to remove the writes, where following them
            would do.

    Raises:
        TraceError: ``torch.export`` cannot read the model, or not without writes in place.
    """
    program, copied, _ = export_program(model, args, kwargs)
    parameters = frozenset(program.graph_signature.inputs_to_parameters)
    if decomposed or not follow_writes(program.graph, parameters):
        try:
            program = program.run_decompositions({})
        except Exception as error:  # whatever the passes of torch.export raise
            raise TraceError(f"its decomposition failed: {type(error).__name__}: {error}") from error
    signature = program.graph_signature
    first = {
        id(p): name for name, p in reversed(list(copied.module.named_parameters(remove_duplicate=False)))
    }
    every = dict(copied.module.named_parameters(remove_duplicate=False))
    names, inputs = signature.inputs_to_parameters, set(signature.user_inputs)
    sources: dict[fx.Node, str] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            name = first[id(every[names[node.name]])]
            sources[node] = copied.tied.get(name, name)
        elif node.op == "placeholder" and node.name in inputs:
            sources[node] = _INPUT
    returned = {name for name in signature.user_outputs if isinstance(name, str)}
    output = next(iter(reversed(program.graph.nodes)))
    output.args = (tuple(v for v in output.args[0] if isinstance(v, fx.Node) and v.name in returned),)
    return feeds(program.graph, sources)


def feeds(graph: fx.Graph, sources: Mapping[fx.Node, str]) -> Relation:
    """Which parameter's consumer feeds which other's without another consumer in between.

    A consumer of a parameter is an operation on activations (values that depend on an input) that also takes
    a value computed from parameters alone. ``input`` and ``output`` stand for the model's ends.

    Args:
        graph: Operations without writes in place.
        sources: Name of each parameter's node, ``input`` for inputs.
    """
    needed, zeros = _needed(graph), _zeros(graph)
    pure: dict[fx.Node, frozenset[str]] = {}  # parameters that a value is computed from, where no input is
    flow: dict[fx.Node, frozenset[str]] = {}  # last consumers before an activation
    relation: Relation = set()
    nothing: frozenset[str] = frozenset()
    for node in graph.nodes:
        name = sources.get(node)
        if node not in needed or node in zeros:
            continue
        operands = _operands(node)
        if name == _INPUT:
            flow[node] = frozenset({_INPUT})
        elif name is not None:
            pure[node] = frozenset({name})
        elif node.op == "output":
            relation |= {(consumer, _OUTPUT) for each in operands for consumer in flow.get(each, nothing)}
        elif any(operand in flow for operand in operands):
            before = nothing.union(*(flow.get(operand, nothing) for operand in operands))
            taken = nothing.union(*(pure.get(operand, nothing) for operand in operands))
            relation |= {(consumer, parameter) for consumer in before for parameter in taken}
            flow[node] = taken or before
        else:
            pure[node] = nothing.union(*(pure.get(operand, nothing) for operand in operands))
    return relation


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values the output depends on."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed:
            needed.update(_operands(node), (node,))
    return needed


def _zeros(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values are zeros whatever the input is."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        name, operands = operation(node), node.all_input_nodes
        if (
            name in _ZEROS
            or (name in _OF_ZEROS and operands and operands[0] in found)
            or (name in _PRODUCTS and any(operand in found for operand in operands))
        ):
            found.add(node)
    return found


def _operands(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values an operation takes."""
    name = operation(node)
    if name in _FRESH:
        return []
    return node.all_input_nodes[:1] if name in _LIKE else node.all_input_nodes
