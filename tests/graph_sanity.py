"""Checks of the graph and the report of a real model, also against its own autograd."""

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
from ghn_init.coverage.sanity import account_problems, graph_problems, recording_problems
from ghn_init.tracing.lower import lower
from ghn_init.tracing.trace import record_model


def report_problems(model: nn.Module, report: InitReport) -> list[str]:
    """Parameters that the report tells of never or twice, without a reason, or that are not finite."""
    named = dict(model.named_parameters(remove_duplicate=False))
    problems = account_problems(named, report.predicted, report.kept, report.skipped)
    finite = [bool(torch.isfinite(named[name]).all()) for name in report.predicted if name in named]
    return problems + ([] if all(finite) else ["a predicted value is not finite"])


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
    recording = record_model(model, inputs)
    graph = lower(recording)
    problems = [f"trace changed {name}" for name in before.changed()]
    problems += graph_problems(graph) + recording_problems(graph, recording)
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
