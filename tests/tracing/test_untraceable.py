"""Models that cannot be traced as a whole: leaves, partial graphs, and what the errors say."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import InputError, TraceError

INPUT = torch.empty(2, 8)


class Opaque(nn.Module):
    """Leaves torch for another library's arrays: nothing can record that."""

    def __init__(self, out: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(out, 8))

    def forward(self, x: Tensor) -> Tensor:
        raise OSError("the accelerator's driver is not here")


class Model(nn.Module):
    def __init__(self, out: int = 8) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(8, 8), nn.Sequential(Opaque(out)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in values(model).items() if not torch.equal(value, before[name])}


def test_error_names_module_and_operation_and_what_to_do() -> None:
    class Wrong(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return torch.bmm(input, self.weight)

    with pytest.raises(InputError) as told:
        ghn_init.trace(nn.Sequential(nn.Linear(8, 8), Wrong(8, 8)), INPUT)
    message = str(told.value)
    assert "module '1', operation bmm on shapes (2, 8), (8, 8)" in message
    ways = ("example_inputs=", "leaf='1'", "leaf={'1': lambda", "register_rule(", 'on_untraceable="keep"')
    for way in ways:
        assert way in message


@pytest.mark.parametrize("leaf", ["block.0", Opaque, lambda path, module: path == "block.0", ["block"]])
def test_leaf_is_not_entered_and_its_parameters_are_told(leaf: Any) -> None:
    model = Model()
    with pytest.raises(InputError, match="driver"):
        ghn_init.trace(model, INPUT)
    graph = ghn_init.trace(model, INPUT, leaf=leaf)
    assert graph.slots.keys() == {"stem.weight", "stem.bias", "head.weight", "head.bias"}
    assert graph.distances()[graph.slots["stem.bias"], graph.slots["head.weight"]] == 1
    assert "inside leaf module 'block" in graph.unreached["block.0.weight"]
    assert type(model.block[0]) is Opaque


@pytest.mark.parametrize("method", ["recorder", "fake", "export"])
def test_leaf_with_a_forward_of_its_own_gets_nodes(method: Any) -> None:
    def forward(module: Any, x: Tensor) -> Tensor:
        return F.linear(x, module.weight)[:, :8]

    graph = ghn_init.trace(Model(12), INPUT, leaf={"block.0": forward}, method=method)
    assert graph.nodes[graph.slots["block.0.weight"]].primitive == "conv"
    assert not graph.unreached


def test_wrong_leaves_are_told() -> None:
    with pytest.raises(TraceError, match="'bloc', which is no module"):
        ghn_init.trace(Model(), INPUT, leaf="bloc")
    with pytest.raises(TraceError, match="chooses the model itself"):
        ghn_init.trace(Model(), INPUT, leaf=nn.Module)
    with pytest.raises(TraceError, match="not int"):
        ghn_init.trace(Model(), INPUT, leaf=[3])  # type: ignore[list-item]
    with pytest.raises(TraceError, match="a function of the module"):
        ghn_init.trace(Model(), INPUT, leaf={"block": 3})  # type: ignore[dict-item]
    with pytest.raises(TraceError, match='"raise" or "keep"'):
        ghn_init.trace(Model(), INPUT, on_untraceable="ignore")  # type: ignore[arg-type]


def test_keep_passes_over_a_module_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    before = values(model)
    with caplog.at_level(logging.WARNING, "ghn_init"):
        report = ghn_init.apply(model, "bundled", example_inputs=INPUT, on_untraceable="keep", head="predict")
    assert report.predicted.keys() == {"stem.weight", "stem.bias", "head.weight", "head.bias"}
    assert "'block.0' could not be traced" in report.kept["block.0.weight"]
    assert "driver" in report.kept["block.0.weight"]
    assert changed(model, before) == report.predicted.keys()
    assert "driver" in caplog.text
    assert "driver" in str(report)


def test_keep_ends_where_nothing_helps() -> None:
    class Changing(Model):
        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.stem(x))
            raise OSError("no further")

    model = Changing()
    graph = ghn_init.trace(model, INPUT, on_untraceable="keep")
    assert graph.slots.keys() == {"stem.weight", "stem.bias"}
    assert "no further" in graph.unreached["head.weight"]
    assert not graph.outputs


def test_keep_without_anything_reached_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise OSError("not here")

    model = Broken(8, 8)
    before = values(model)
    with caplog.at_level(logging.WARNING, "ghn_init"):
        report = ghn_init.apply(model, "bundled", example_inputs=INPUT, on_untraceable="keep")
    assert not report.predicted
    assert report.kept.keys() == {"weight", "bias"}
    assert "not here" in report.kept["weight"]
    assert not changed(model, before)
    assert "not here" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_keep_works_around_scripted_and_quantised_parts() -> None:
    inner = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})
    for part in (torch.jit.script(nn.Linear(8, 8)), inner):
        model = nn.Sequential(nn.Linear(8, 8), part, nn.Linear(8, 3))
        with pytest.raises(TraceError, match="leaf='1"):
            ghn_init.trace(model, INPUT)
        report = ghn_init.apply(model, "bundled", example_inputs=INPUT, on_untraceable="keep", head="predict")
        assert report.predicted.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
        assert all("scripted" in why for why in report.kept.values())
        assert model(torch.ones(2, 8)).shape == (2, 3)


def test_keep_of_a_model_that_can_be_traced_is_as_ever() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    graphs = [ghn_init.trace(model, INPUT, on_untraceable=way).to_dict() for way in ("raise", "keep")]
    assert graphs[0] == graphs[1]


def test_what_cannot_be_written_is_refused_with_keep_too() -> None:
    with pytest.raises(TraceError, match="lazy"):
        ghn_init.trace(nn.Sequential(nn.LazyLinear(4)), INPUT, on_untraceable="keep")
    with pytest.raises(TraceError, match="no parameters"):
        ghn_init.trace(nn.ReLU(), INPUT, on_untraceable="keep")
