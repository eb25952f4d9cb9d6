"""What plain PyTorch offers: layers, weights computed from weights, control flow, small architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from ghn_init.coverage.case import Case
from ghn_init.coverage.suites import plain_control, plain_layers, plain_models, plain_odd, plain_weights
from ghn_init.coverage.suites.plain_entries import Zoo

LIBRARIES: tuple[str, ...] = ()
TARGETS = {"": 100.0}
_PARTS = {
    "layers": plain_layers.ENTRIES.zoo,
    "weights": plain_weights.ENTRIES.zoo,
    "control": plain_control.ENTRIES.zoo,
    "models": plain_models.ENTRIES.zoo,
    "odd": plain_odd.ENTRIES.zoo,
}
ZOO: Zoo = {name: entry for part in _PARTS.values() for name, entry in part.items()}
"""Name → builder and inputs of every module."""


def cases() -> Iterator[Case]:
    """The modules, by kind."""
    for family, part in _PARTS.items():
        for name, (build, inputs) in part.items():
            yield Case(name, family, build, partial(_inputs, inputs))


def _inputs(inputs: Callable[[], Any], model: nn.Module) -> Any:
    return inputs()
