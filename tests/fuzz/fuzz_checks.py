"""What must hold when the library meets a model, whatever the model is."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fuzz_models import Description, Fuzzed, Naming
from states import Snapshot, tiny_ghn
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, GHNInitError, InitReport

Result = dict[str, Tensor | str]
"""Identity of a parameter → its bits, or why the model's own value stays."""


class Property(AssertionError):
    """Something that must hold does not."""


def demand(holds: object, what: str) -> None:
    if not holds:
        raise Property(what)


class Surroundings:
    """State of the process that no call may change."""

    def __init__(self) -> None:
        self.seen = self._look()

    def _look(self) -> tuple[Any, ...]:
        return (
            torch.get_rng_state().numpy().tobytes(),
            random.getstate(),
            np.random.get_state()[1].tobytes(),  # type: ignore[index]
            (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
            (torch.is_autocast_enabled("cpu"), torch.get_default_device()),
            torch.jit.ScriptFunction.__call__,
        )

    def check(self) -> None:
        now = self._look()
        names = ("torch generator", "random", "numpy generator", "modes", "autocast and device", "jit")
        changed = [name for name, a, b in zip(names, self.seen, now, strict=True) if a != b]
        demand(not changed, f"changed around the model: {changed}")


class Structure:
    """What of a model even a successful call leaves alone."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen = self._look()
        self.tensors = self._identities()

    def _look(self) -> list[Any]:
        keys = ("training", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        return [
            *(
                [type(m), list(m._modules), list(m._parameters), list(m._buffers)]
                for m in self.model.modules()
            ),
            *([repr(m.__dict__[key]) for key in keys] for m in self.model.modules()),
            *((p.requires_grad, p.grad, p.dtype, p.stride()) for p in self.model.parameters()),
        ]

    def check(self) -> None:
        demand(self._look() == self.seen, "the model's structure, modes, hooks or gradients changed")
        demand(self._identities() == self.tensors, "a parameter was replaced")

    def _identities(self) -> dict[str, int]:
        # A right inverse of torch (orthogonal) replaces buffers of its own.
        return {name: id(p) for name, p in self.model.named_parameters(remove_duplicate=False)}


def check_model(description: Description, ghn: GHN | None = None, naming: Naming | None = None) -> str:
    """Check every property of one model; returns the outcome (``applied`` or the name of an error).

    Raises:
        Property: A property does not hold.
    """
    ghn = ghn or tiny_ghn()
    around = Surroundings()
    outcome, result, report = _applied(Fuzzed(description), description, ghn)
    around.check()
    # Where no inputs are given they are found by the layers, the first ones first.
    naming = replace(naming or Naming(1), shuffled=description.given)
    again, renamed_result, renamed_report = _applied(Fuzzed(description, naming), description, ghn, once=True)
    around.check()
    demand(outcome == again, f"{outcome}, but {again} under other names: {result} {renamed_result}")
    if report is not None and renamed_report is not None:
        _compare(result, renamed_result)
        demand(
            Counter(n.primitive for n in report.graph.nodes)
            == Counter(n.primitive for n in renamed_report.graph.nodes),
            "another graph under other names",
        )
    return outcome


def _applied(
    model: Fuzzed, description: Description, ghn: GHN, *, once: bool = False
) -> tuple[str, Result, InitReport | None]:
    """Apply twice (or ``once``), predict, and check what concerns this model alone."""
    inputs = description.example() if description.given else None
    before, structure = Snapshot(model), Structure(model)
    try:
        report = ghn_init.apply(model, ghn, example_inputs=inputs)
    except GHNInitError as error:
        structure.check()
        demand(before.changed() == [], f"changed after an error: {before.changed()}")
        demand(str(error), "an error without a message")
        return type(error).__name__, {"": str(error)}, None
    structure.check()
    _accounted(model, report, before)
    if once:
        return "applied", _by_identity(model, report), report
    written, values = Snapshot(model), _values(model)
    bare = ghn_init.predict(model, ghn, example_inputs=inputs)
    demand(written.changed() == [], "predict changed the model")
    _as_predicted(model, report, bare)
    ghn_init.apply(model, ghn, example_inputs=inputs)
    moved = [
        name
        for name, value in _values(model).items()
        if not torch.equal(value, values[name]) and not _iterated(model, name)
    ]
    demand(not moved, f"other values on repeat: {moved}")
    return "applied", _by_identity(model, report), report


def _values(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach().clone() for name, tensor in named}


def _accounted(model: nn.Module, report: InitReport, before: Snapshot) -> None:
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    listed = Counter([*report.predicted, *report.kept, *report.skipped])
    demand(sorted(listed) == sorted(names), f"not accounted for: {set(names) ^ set(listed)}")
    demand(not listed or max(listed.values()) == 1, "a parameter is listed twice")
    changed = set(before.changed())
    memory = {_place(model.get_parameter(name)) for name in report.predicted}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in report.predicted:
            demand(
                name not in changed or _place(parameter) in memory, f"{name} changed, but is not predicted"
            )
        elif parameter.is_floating_point():
            demand(parameter.isfinite().all(), f"{name} is NaN or infinite")
    demand(str(report) and report.to_json(), "no report")


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()


def _as_predicted(model: nn.Module, report: InitReport, bare: dict[str, Tensor]) -> None:
    for name, value in bare.items():
        demand(value.isfinite().all(), f"the prediction for {name} is NaN or infinite")
        if name in report.predicted and dict(model.named_parameters()).get(name) is not None:
            parameter = model.get_parameter(name)
            demand(torch.equal(parameter, value.to(parameter)), f"{name} differs from its prediction")


def _iterated(model: nn.Module, name: str) -> bool:
    """Whether a tensor belongs to a power iteration, which goes on from where it was."""
    return name.rpartition(".")[2] in ("weight_u", "weight_v", "_u", "_v") and name in dict(
        model.named_buffers()
    )


def _by_identity(model: Fuzzed, report: InitReport) -> Result:
    why = {**report.kept, **report.skipped}
    return {
        identity: model.get_parameter(name).detach().clone() if name in report.predicted else why[name]
        for identity, name in model.identities()
    }


def _compare(one: Result, other: Result) -> None:
    demand(one.keys() == other.keys(), "other parameters under other names")
    for identity, value in one.items():
        second = other[identity]
        if isinstance(value, Tensor) and isinstance(second, Tensor):
            demand(torch.equal(value, second), f"{identity} {tuple(value.shape)} depends on names or order")
        else:
            demand(
                isinstance(value, str) and isinstance(second, str),
                f"{identity} is predicted or kept by its name: {value!r:.80} / {second!r:.80}",
            )
