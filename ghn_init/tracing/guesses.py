"""Answers to questions about values that nobody computed (data-dependent branches and sizes)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import torch
from torch import Tensor

_OWN = ("torch", "ghn_init")
_CHECKED = "torch.distributions"


@dataclass
class Guesses:
    """What a data-dependent question gets as an answer.

    Attributes:
        truth: Answer to a yes-or-no question.
        others: Places in the code whose questions get the other answer.
        asked: Number of yes-or-no questions so far; when there were any, the other answer is worth a try.
        places: Places in the code that asked them, in the order of their last question.
        where: Module paths that asked for a value.
        positions: Whether places of values that nobody computed were asked for: all of them were told.
        selected: Whether a mask that nobody computed selected elements: it took all of them.
    """

    truth: bool = False
    others: frozenset[str] = frozenset()
    asked: int = 0
    places: dict[str, None] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    positions: bool = False
    selected: bool = False

    def values(self, tensor: Tensor, path: str) -> Tensor:
        """A CPU tensor that stands for the tensor's value: ``truth`` for booleans, else ones.

        The checks of a distribution's arguments pass.
        """
        self.where.append(path)
        if tensor.dtype is torch.bool:
            place, checked = _asking()
            if checked:
                return torch.ones(tensor.shape, dtype=torch.bool, device="cpu")
            self.asked += 1
            self.places.pop(place, None)
            self.places[place] = None
            answer = self.truth != (place in self.others)
            return torch.full(tensor.shape, answer, dtype=torch.bool, device="cpu")
        return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu")

    def revised(self) -> Guesses | None:
        """After a failure: the other answer for the place that asked last, if it has not been tried.

        A check of values (``if not valid: raise``) is the last to ask before it raises.
        """
        for place in reversed(self.places):
            if place not in self.others:
                return Guesses(self.truth, self.others | {place})
        return None


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
