"""Scripted functions, which run as Python while a model is recorded."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import TraceError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    @torch.jit.script
    def scaled(x: Tensor, times: int) -> Tensor:
        return x * times

    @torch.jit.script
    def many(x: Tensor, slope: float = 0.5, bonus: int | None = None):
        y = x * slope + 1
        if x.dim() > 2:
            y = y.view(y.size(0), -1)
        for _ in range(3):
            y = torch.nn.functional.gelu(y)
        y = scaled(y, 3)
        if bonus is not None:
            y = y + bonus
        y[:, 0] = 2
        y += torch.zeros(3, dtype=torch.float32).sum()
        parts = [y, x]
        parts.append(y)
        assert y.size(0) > 0, "empty"
        return torch.cat(parts, 1), x[:, 1:3], y.softmax(-1), torch.einsum("ij,kj->ik", [y, y])

    @torch.jit.script
    def swish(x: Tensor, inplace: bool = False) -> Tensor:
        return x.mul_(x.sigmoid()) if inplace else x.mul(x.sigmoid())

    TABLE = torch.arange(4.0)
    tabled = torch.jit.trace(lambda x: x + TABLE, torch.zeros(2, 4))


class Calling(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, function, width: int) -> None:
        super().__init__()
        self.function = function
        self.before, self.after = nn.Linear(4, 4), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        result = self.function(self.before(x))
        return self.after(result if isinstance(result, Tensor) else torch.cat(result[:3], 1))


@pytest.mark.parametrize(
    ("function", "args", "width"),
    [(many, (), 18), (many, (0.25, 2), 18), (swish, (), 4), (swish, (True,), 4), (scaled, (3,), 4)],
)
def test_what_is_recorded_is_what_runs(function, args, width):
    model = Calling(lambda x: function(x, *args), width)
    graph = ghn_init.trace(model, torch.zeros(3, 4), method="recorder")
    assert graph.unreached == {}
    assert [node.primitive for node in graph.nodes if node.params] == ["conv", "bias"] * 2
    x = torch.randn(3, 4)
    assert torch.equal(model(x), model(x))  # scripted again afterwards


def test_values_are_those_of_the_scripted_function():
    from ghn_init.tracing.scripted import as_python

    x = torch.randn(3, 4)
    for function, args in ((many, (0.25, 2)), (many, ()), (swish, (True,)), (scaled, (3,))):
        expected, found = function(x.clone(), *args), as_python(function)(x.clone(), *args)
        assert type(expected) is type(found)
        pairs = zip(expected, found, strict=True) if isinstance(found, tuple) else [(expected, found)]
        assert all(torch.equal(left, right) for left, right in pairs)


def test_one_with_constants_says_what_to_do():
    model = Calling(tabled, 4)
    with pytest.raises(TraceError, match=r"scripted function .* constants .* PYTORCH_JIT=0"):
        ghn_init.trace(model, torch.zeros(2, 4), method="recorder")
    assert ghn_init.trace(model, torch.zeros(2, 4)).unreached == {}
