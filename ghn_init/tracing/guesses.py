"""Answers to questions about values that nobody computed (data-dependent branches and sizes)."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ghn_init.errors import TraceError

_OWN = ("torch", "ghn_init")
_CHECKED = "torch.distributions"
_TURNS, _PATIENCE, _MORE_PATIENCE = 3, 128, 1024
# One of them ends a loop that compares a number with a bound.
_ENDS = (0, 1 << 15, -(1 << 15))


class EndlessError(TraceError):
    """A loop in the forward has no end without values."""


@dataclass
class Guesses:
    """What a data-dependent question gets as an answer.

    Attributes:
        truth: Answer to a yes-or-no question.
        others: Places in the code whose questions get the other answer.
        loops: Places whose questions end a loop: after a few answers they get the other one.
        patience: How often one place may ask in one module: a loop that always gets one answer has no end.
        asked: Number of yes-or-no questions so far; when there were any, the other answer is worth a try.
        places: Places in the code that asked them, or asked too often, in the order of their last question.
        tired: Places that asked too often.
        counts: Whether one of them asked for a number: a loop over many things does so, and ends.
        where: Module paths that asked for a value.
        positions: Whether places of values that nobody computed were asked for: all of them were told.
        selected: Whether a mask that nobody computed selected elements: it took all of them.
    """

    truth: bool = False
    others: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    patience: int = _PATIENCE
    asked: int = 0
    places: dict[str, None] = field(default_factory=dict)
    tired: set[str] = field(default_factory=set)
    counts: bool = False
    where: list[str] = field(default_factory=list)
    positions: bool = False
    selected: bool = False
    _times: Counter[tuple[str, str]] = field(default_factory=Counter)

    def values(self, tensor: Tensor, path: str) -> Tensor:
        """A CPU tensor that stands for the tensor's value: ``truth`` for booleans, else ones.

        The checks of a distribution's arguments pass.

        Raises:
            EndlessError: One place has asked too often.
        """
        self.where.append(path)
        place, checked = _asking()
        boolean = tensor.dtype is torch.bool
        if checked:
            return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu")
        if boolean:
            self.asked += 1
            self._note(place)
        turn = self._turn(place, path, boolean)
        other = (place in self.others) != (place in self.loops and turn > _TURNS)
        if boolean:
            return torch.full(tensor.shape, self.truth != other, dtype=torch.bool, device="cpu")
        value = _limited(_ENDS[turn % len(_ENDS)], tensor.dtype) if other else 1
        return torch.full(tensor.shape, value, dtype=tensor.dtype, device="cpu")

    def _note(self, place: str) -> None:
        self.places.pop(place, None)
        self.places[place] = None

    def _turn(self, place: str, path: str, boolean: bool) -> int:
        """How often the place has asked in this module."""
        self._times[place, path] += 1
        if self._times[place, path] > self.patience:
            self.tired.add(place)
            self.counts = not boolean
            self._note(place)
            raise EndlessError(
                f"Module {path or '(the model itself)'!r} asked more than {self.patience} times at {place} "
                "for values that depend on the input: a loop that ends by a value does not end without it"
            )
        return self._times[place, path]

    def revised(self) -> Guesses | None:
        """After a failure: the other answer for the place that asked last, if it has not been tried.

        A check of values (``if not valid: raise``) is the last to ask before it raises; a loop without an end
        is the last to ask before it is stopped.
        """
        for place in reversed(self.places):
            if place in self.tired and place not in self.loops:
                return Guesses(self.truth, self.others, self.loops | {place}, self.patience)
            if place not in self.others:
                return Guesses(self.truth, self.others | {place}, self.loops, self.patience)
        return None

    def alternatives(self) -> list[Guesses | None]:
        """Other answers that are worth a try after a failure with these ones."""
        if self.tired:
            patient = Guesses(patience=_MORE_PATIENCE)
            return [patient, self.revised()] if self.counts else [self.revised(), patient]
        return [self.revised(), Guesses(truth=True)] if self.asked else []


def _limited(value: int, dtype: torch.dtype) -> int:
    """The value, or the nearest one that a tensor of whole numbers holds."""
    if dtype.is_floating_point or dtype.is_complex:
        return value
    limits = torch.iinfo(dtype)
    return min(max(value, limits.min), limits.max)


def _asking() -> tuple[str, bool]:
    """File and line of the innermost code outside of torch and this package; whether a distribution asks."""
    frame, checked = sys._getframe(1), False
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _OWN:
            break
        checked = checked or module.startswith(_CHECKED)
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}", checked
