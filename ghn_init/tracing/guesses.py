"""Answers to questions about values that nobody computed (data-dependent branches and sizes)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Guesses:
    """What a data-dependent question gets as an answer.

    Attributes:
        truth: Answer to a yes-or-no question.
        asked: Number of yes-or-no questions so far; when there were any, the other answer is worth a try.
        where: Module paths that asked for a value.
    """

    truth: bool = False
    asked: int = 0
    where: list[str] = field(default_factory=list)

    def values(self, tensor: Tensor, path: str) -> Tensor:
        """A CPU tensor that stands for the tensor's value: ``truth`` for booleans, else ones."""
        self.where.append(path)
        if tensor.dtype is torch.bool:
            self.asked += 1
            return torch.full(tensor.shape, self.truth, dtype=torch.bool, device="cpu")
        return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu")
