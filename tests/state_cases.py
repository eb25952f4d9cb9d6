"""A model in some state, and what is right for it: the rows of the table of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from states import IMAGE, ConvNet
from torch import Tensor, nn

import ghn_init

ROWS: dict[str, Callable[[Path], Case]] = {}


@dataclass
class Case:
    """A model in some state, and what is right for it.

    Attributes:
        model: What is passed to ``apply``.
        inside: The module whose tensors have the names of a plain ``like``; default the model.
        like: The same architecture in no special state: gives the expected values.
        inputs: Example inputs.
        options: Further arguments of ``apply``.
        skipped: Tensor → part of the reason why it is skipped; all others are as predicted.
        refused: Part of the error, where the model must be refused and left bit-equal.
        read: The value that the model computes with for a name; default its attribute.
        exact: Whether values are equal bit by bit, or up to rounding.
        after: What else must hold, given the report.
    """

    model: nn.Module
    inside: nn.Module | None = None
    like: nn.Module = field(default_factory=ConvNet)
    inputs: Any = IMAGE
    options: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: str | None = None
    read: Callable[[str], Tensor] | None = None
    exact: bool = True
    after: Callable[[ghn_init.InitReport], None] = lambda report: None


def state(name: str):
    def register(row: Callable[[Path], Case]) -> Callable[[Path], Case]:
        ROWS[name] = row
        return row

    return register
