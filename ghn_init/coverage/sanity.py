"""What must hold for the graph of any model, whatever the model is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ghn_init.coverage.consumers import Consumer, consumers
from ghn_init.graph import ArchGraph, Node
from ghn_init.tracing.recorder import Recording

_CONV = frozenset({"conv", "sep_conv", "dil_conv"})
_DENSE = frozenset({"conv", "pos_enc"})
_LAYERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _CONV),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _CONV),
    **dict.fromkeys(("linear", "bilinear", "lstm", "gru", "rnn_tanh", "rnn_relu"), _DENSE),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm"), frozenset({"ln", "pos_enc"})),
    **dict.fromkeys(("embedding", "embedding_bag"), frozenset({"pos_enc"})),
    "batch_norm": frozenset({"bn"}),
    "scaled_dot_product_attention": frozenset({"msa", "pos_enc"}),
    "cat": frozenset({"concat", "pos_enc"}),
}
"""Operation → primitives that may stand for it, beside the bias that it adds."""

UNUSED = ("not used", "its result reaches")
"""How the reasons begin that say that no output depends on a parameter."""


def graph_problems(graph: ArchGraph) -> list[str]:
    """What is wrong with a graph by itself; empty if nothing is."""
    from_input = _closure(graph.successors(), [0])
    sources = [i for i, node in enumerate(graph.nodes) if node.primitive == "pos_enc"]
    fed = _closure(graph.successors(), [0, *sources])
    useful = _closure(graph.predecessors(), graph.outputs)
    problems = [] if graph.outputs else ["no outputs"]
    if not from_input & set(graph.outputs) and len(graph) > 1:
        problems.append("no output depends on the input")
    for index, node in enumerate(graph.nodes):
        label = _label(index, node)
        if index not in fed:
            problems.append(f"{label} is fed by nothing")
        if index and index not in useful:
            problems.append(f"{label} reaches no output")
        allowed = _LAYERS.get(node.op)
        if allowed and node.primitive not in (*allowed, "bias"):
            problems.append(f"{label} should be one of {sorted(allowed)}")
        roles = [slot.role for slot in node.params]
        if len(set(roles)) < len(roles) or (len(roles) > 1 and node.primitive not in ("bn", "ln")):
            problems.append(f"{label} owns too much")
    return problems


def recording_problems(graph: ArchGraph, recording: Recording) -> list[str]:
    """Where a graph disagrees with the recorded operations that it was lowered from.

    A parameter that the outputs depend on must have a node or a reason that says why it has none; one that
    they do not depend on must have no node; and a node's primitive must be one that stands for an operation
    which takes the node's parameter.
    """
    taken = consumers(recording)
    problems = []
    for name in recording.parameters:
        index, reason = graph.slots.get(name), graph.unreached.get(name, "")
        if index is None and not reason:
            problems.append(f"{name} has neither a node nor a reason")
        elif index is None and name in taken and reason.startswith(UNUSED):
            problems.append(f"{name} is {reason!r}, but {_used_by(taken[name])} takes it")
        elif index is not None and name not in taken:
            problems.append(f"{name} has a node, but no output depends on it")
        elif index is not None and not _agree(graph.nodes[index], taken[name]):
            problems.append(f"{_label(index, graph.nodes[index])}, but {_used_by(taken[name])} takes {name}")
    return problems


def account_problems(names: Iterable[str], *parts: Mapping[str, Any]) -> list[str]:
    """Parameters that are told of in none or several of the parts of a report, or without a reason.

    Args:
        names: Names of all parameters of the model, aliases included.
        parts: ``predicted``, ``kept`` and ``skipped`` of a report.
    """
    problems = []
    for name in names:
        told = sum(name in part for part in parts)
        if told != 1:
            problems.append(f"{name} is reported {told} times")
    return problems + [
        f"{name} has no reason" for part in parts for name, reason in part.items() if reason == ""
    ]


def _agree(node: Node, taken: list[Consumer]) -> bool:
    allowed = [each.allowed for each in taken]
    return any(each is None or node.primitive in each for each in allowed)


def _used_by(taken: list[Consumer]) -> str:
    return " and ".join(sorted({f"{each.op} in {each.module!r}" for each in taken})[:3])


def _label(index: int, node: Node) -> str:
    return f"node {index} ({node.primitive}, {node.op}, {[slot.name for slot in node.params]})"


def _closure(following: list[list[int]], start: Iterable[int]) -> set[int]:
    reached: set[int] = set()
    waiting = list(start)
    while waiting:
        index = waiting.pop()
        if index not in reached:
            reached.add(index)
            waiting.extend(following[index])
    return reached
