"""Writes in place of an exported graph, followed without tracing it again."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

_PLAIN = (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv)


def follow_writes(graph: fx.Graph, fixed: frozenset[str]) -> bool:
    """Make every operation that reads a tensor after a write in place read what was written.

    Done where each write covers all of the storage that it goes to, which needs no second look at the
    operations. Where one covers a part, is a write to a parameter, or where the graph holds other graphs,
    nothing is changed.

    Args:
        graph: Of ``torch.export``, with the fake tensors that each node computed.
        fixed: Names of the placeholders of parameters.

    Returns:
        Whether the graph is now free of effects; its operations keep their names.
    """
    calls = [node for node in graph.nodes if node.op == "call_function"]
    if not all(isinstance(node.target, torch._ops.OpOverload) or node.target in _PLAIN for node in calls):
        return False
    held = {_storage(node) for node in graph.nodes if node.name in fixed}
    writes = {node: list(_written(node)) for node in calls}
    for operand in (operand for operands in writes.values() for operand in operands):
        if _storage(operand) in held or not _covers(operand):
            return False
    latest: dict[int, fx.Node] = {}
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        for operand in node.all_input_nodes if latest else ():
            last = latest.get(_storage(operand))
            if last is not None and order[operand] < order[last]:
                node.replace_input_with(operand, last)
        for operand in writes.get(node, ()):
            latest[_storage(operand)] = node
    return True


def _written(node: fx.Node) -> Iterator[fx.Node]:
    """The operands that an operation writes to."""
    schema: Any = getattr(node.target, "_schema", None)
    for position, argument in enumerate(schema.arguments if schema is not None and schema.is_mutable else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            for operand in given if isinstance(given, (list, tuple)) else (given,):
                if isinstance(operand, fx.Node):
                    yield operand


def _covers(node: fx.Node) -> bool:
    """Whether a tensor is all of its storage."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return value.numel() * value.element_size() == value.untyped_storage().nbytes()


def _storage(node: fx.Node) -> int:
    """Which storage a tensor is in; the node's own identity for what is no tensor."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return -id(node)
    return value.untyped_storage()._cdata
