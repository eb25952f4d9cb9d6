"""Answers to questions about values that nobody computed (data-dependent branches and sizes)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import torch
from torch import Tensor

_OWN = ("torch", "ghn_init")


@dataclass
class Guesses:
    """What a data-dependent question gets as an answer.

    Attributes:
        truth: Answer to a yes-or-no question.
        others: Places in the code whose questions get the other answer.
        asked: Number of yes-or-no questions so far; when there were any, the other answer is worth a try.
        places: Places in the code that asked them, in the order of their last question.
        where: Module paths that asked for a value.
    """

    truth: bool = False
    others: frozenset[str] = frozenset()
    asked: int = 0
    places: dict[str, None] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)

    def values(self, tensor: Tensor, path: str) -> Tensor:
        """A CPU tensor that stands for the tensor's value: ``truth`` for booleans, else ones."""
        self.where.append(path)
        if tensor.dtype is torch.bool:
            self.asked += 1
            place = _asking()
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


def _asking() -> str:
    """File and line of the innermost code outside of torch and this package that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
