"""``torch.func`` transforms inside a forward."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import TraceError


class Batched(nn.Module):
    """Scales each row by a number of its own, by ``vmap``."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.steps = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))
        self.fails = fails

    def row(self, x: Tensor, scale: Tensor) -> Tensor:
        y = self.first(x) * (scale * self.steps.exp())
        if self.fails:
            raise RuntimeError("no row")
        return torch.complex(y, y).real

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.vmap(self.row)(x, torch.ones(x.shape[0])))


def test_values_that_are_known_meet_others() -> None:
    graph = ghn_init.trace(Batched(), torch.zeros(3, 4), method="recorder")
    assert {"first.weight", "second.weight"} <= graph.slots.keys()
    assert list(graph.unreached) == ["steps"]
    assert graph.distances()[graph.slots["first.weight"], graph.slots["second.weight"]] > 0


@pytest.mark.parametrize("method", ["recorder", "fake", "export", "auto"])
def test_a_failure_inside_one_ends_it(method) -> None:
    with pytest.raises(TraceError, match=r"no row|inside of vmap"):  # torch 2.6 does not export as far as it
        ghn_init.trace(Batched(fails=True), torch.zeros(3, 4), method=method)
    torch.zeros(2).requires_grad_()  # refused inside a transform


class Diverging(nn.Module):
    """Asks for a storage inside ``vmap``, which the replay of an export does not give."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda row, scale: self.first(row) * scale)(x, torch.ones(x.shape[0]))


def test_the_replay_of_an_export_ends_what_it_began() -> None:
    with suppress(TraceError):
        ghn_init.trace(Diverging(), torch.zeros(3, 4), method="export")
    torch.zeros(2).requires_grad_()
