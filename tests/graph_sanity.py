"""What must hold for the graph and the report of any model, checked against the model's own autograd."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import torch
from states import Snapshot
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, ArchGraph, InitReport

_CONV = frozenset({"conv", "sep_conv", "dil_conv"})
_DENSE = frozenset({"conv", "pos_enc"})
_LAYERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _CONV),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _CONV),
    **dict.fromkeys(("linear", "bilinear", "lstm", "gru", "rnn_tanh", "rnn_relu"), _DENSE),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm"), frozenset({"ln"})),
    **dict.fromkeys(("embedding", "embedding_bag"), frozenset({"pos_enc"})),
    "batch_norm": frozenset({"bn"}),
    "scaled_dot_product_attention": frozenset({"msa", "pos_enc"}),
    "cat": frozenset({"concat", "pos_enc"}),
}
"""Operation → primitives that may stand for it."""


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
        label = f"node {index} ({node.primitive}, {node.op}, {[slot.name for slot in node.params]})"
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


def report_problems(model: nn.Module, report: InitReport) -> list[str]:
    """Parameters that the report tells of never or twice, without a reason, or that are not finite."""
    problems = []
    parts = (report.predicted, report.kept, report.skipped)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        told = sum(name in part for part in parts)
        if told != 1:
            problems.append(f"{name} is reported {told} times")
        if name in report.predicted and not torch.isfinite(parameter).all():
            problems.append(f"{name} is not finite")
    unexplained = [n for part in (report.kept, report.skipped) for n, reason in part.items() if not reason]
    return problems + [f"{name} has no reason" for name in unexplained]


def autograd_problems(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], graph: ArchGraph
) -> list[str]:
    """Parameters for which the graph and the model's own autograd disagree whether the output needs them."""
    model = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outputs = [t for t in _tensors(model(*args, **kwargs)) if t.requires_grad]
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = sum((t.abs() if t.is_complex() else t).double().sum() for t in outputs)
    grads = (
        torch.autograd.grad(total, list(named.values()), allow_unused=True)
        if outputs
        else [None] * len(named)
    )
    needed = {name: grad is not None for name, grad in zip(named, grads, strict=True)}
    unused = {name for name, why in graph.unreached.items() if why.startswith(("not used", "its result"))}
    problems = [
        f"{name} is {graph.unreached[name]!r}, but has a gradient" for name in unused if needed.get(name)
    ]
    return problems + [
        f"{n} has no gradient, but a node" for n, used in needed.items() if not used and n in graph.slots
    ]


def check_model(
    model: nn.Module, inputs: Any, ghn: GHN, *, autograd: bool = True
) -> tuple[InitReport, list[str]]:
    """Trace, apply twice, and collect everything that is wrong.

    Args:
        model: The model; initialised afterwards.
        inputs: Real example inputs, in the form that ``example_inputs`` takes.
        ghn: What predicts.
        autograd: Compare with the model's own backward pass.
    """
    before, state = Snapshot(model), (torch.get_rng_state(), random.getstate())
    graph = ghn_init.trace(model, inputs)
    problems = [f"trace changed {name}" for name in before.changed()] + graph_problems(graph)
    first = ghn_init.apply(model, ghn, example_inputs=inputs, head="predict")
    problems += report_problems(model, first)
    named = dict(model.named_parameters())
    values = {name: named[name].detach().clone() for name in first.predicted if name in named}
    ghn_init.apply(model, ghn, example_inputs=inputs, head="predict")
    problems += [f"{n} differs on repeat" for n, value in values.items() if not torch.equal(named[n], value)]
    if not torch.equal(state[0], torch.get_rng_state()) or state[1] != random.getstate():
        problems.append("a random generator moved")
    if autograd:
        args, kwargs = _arguments(inputs)
        problems += autograd_problems(model, args, kwargs, graph)
    return first, problems


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, tuple):
        return inputs, {}
    return ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value))


def _closure(following: list[list[int]], start: Any) -> set[int]:
    reached: set[int] = set()
    waiting = list(start)
    while waiting:
        index = waiting.pop()
        if index not in reached:
            reached.add(index)
            waiting.extend(following[index])
    return reached
