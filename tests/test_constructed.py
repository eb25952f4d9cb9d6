"""Models on the meta device: buffers that are not saved are computed as by their constructor, or named."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from states import tiny_ghn
from torch import Tensor, nn

import ghn_init

GHN = tiny_ghn()
INPUT = torch.zeros(1, 8)


class Table(nn.Module):
    """A linear layer and a table beside it that no method fills."""

    def __init__(self, config: Any, device: torch.device | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, config.width)
        table = torch.linspace(0, config.top, config.width, device=device) + 0 * torch.randn(1, device=device)
        self.register_buffer("table", table, persistent=False)
        self.alias = self.table

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.table


class Scaled(Table):
    """Its scale is not kept anywhere, so the constructor cannot be repeated."""

    def __init__(self, config: Any, scale: float = 1.0) -> None:
        super().__init__(config)
        self.table.mul_(scale)


class Doubled(Table):
    """Keeps something else under the name of its argument."""

    def __init__(self, config: Any, top: int) -> None:
        super().__init__(types.SimpleNamespace(width=config.width, top=top))
        self.top = 2 * top


class Net(nn.Module):
    def __init__(self, layer: type[Table], *arguments: Any) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(width=8, top=3)
        self.inner = nn.ModuleList([layer(self.config, *arguments)])

    def forward(self, x: Tensor) -> Tensor:
        return self.inner[0](x)


def materialised(model: nn.Module, **options: Any) -> tuple[nn.Module, ghn_init.InitReport]:
    return model, ghn_init.apply(
        model, GHN, example_inputs=INPUT, materialize=True, head="predict", **options
    )


def on_meta(layer: type[Table], *arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return Net(layer, *arguments)


def test_a_table_that_is_not_saved_is_computed_again():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model, report = materialised(on_meta(Table))
    assert torch.equal(torch.get_rng_state(), before)
    (layer,) = model.inner
    assert torch.equal(layer.table, torch.linspace(0, 3, 8))
    assert layer.alias is layer.table
    assert set(report.predicted) == {"inner.0.linear.weight", "inner.0.linear.bias"}
    assert not any("meta device" in note for note in report.notes)
    assert model(INPUT).isfinite().all()


def test_the_table_has_the_dtype_of_the_model():
    model, _ = materialised(on_meta(Table).bfloat16())
    assert model.inner[0].table.dtype == torch.bfloat16
    assert torch.equal(model.inner[0].table, torch.linspace(0, 3, 8).bfloat16())


@pytest.mark.parametrize("layer", [Scaled, Doubled])
def test_what_the_constructor_was_given_is_never_guessed(layer):
    model, report = materialised(on_meta(layer, 5))
    assert model.inner[0].table.is_meta
    assert any("left on the meta device" in note and "inner.0.table" in note for note in report.notes)


def test_a_changed_configuration_is_noticed():
    model = on_meta(Table)
    model.config.width = 9
    model, report = materialised(model)
    assert model.inner[0].table.is_meta
    assert any("inner.0.table" in note for note in report.notes)


def test_a_failure_afterwards_takes_the_table_back(monkeypatch):
    model = on_meta(Table)
    model.register_parameter("last", nn.Parameter(torch.zeros(1, device="meta")))

    def reset_parameters() -> None:
        raise RuntimeError("this reset fails")

    model.reset_parameters = reset_parameters
    with pytest.raises(RuntimeError, match="this reset fails"):
        materialised(model)
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers(), model.inner[0].alias])
