"""One model of a suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Case:
    """One model whose coverage is measured.

    Attributes:
        name: Unique in its suite (``resnet50``, ``BertForMaskedLM``): the key of its row.
        family: Models of one kind (``resnet``, ``bert``): a sample draws from every family.
        build: Builds the model, in the mode in which a user would initialise it. Called on the meta device;
            if that fails, with parameters alone on the meta device. It need not seed or set any device.
        inputs: Example inputs for the model, in the form that ``example_inputs`` takes; ``None`` where the
            library must find them by itself, as it should for whatever has a usual signature.
        group: Part of the suite with a target of its own (``classification``), or empty.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: Callable[[nn.Module], Any] | None = None
    group: str = ""


class UnavailableError(Exception):
    """Raised by a builder whose model cannot exist here: a package or a file that is not installed.

    Such a model is listed with the message and counts neither as covered nor as failed.
    """


class OutOfTimeError(BaseException):
    """Raised in a model's process when its CPU time is spent. No handler of common errors holds it up."""
