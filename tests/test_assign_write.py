"""Writing named tensors: values, identity, dtypes, ties, and what is refused or skipped."""

from __future__ import annotations

import pytest
import torch
from states import ConvNet, Snapshot, TiedNet
from torch import nn

from ghn_init import AssignError, PredictionError
from ghn_init.assign import bind, write


def predictions(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def test_values_arrive_and_parameters_stay_the_same_objects():
    model = ConvNet()
    model.conv.weight.requires_grad_(False)
    before = {name: (p, p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()}
    values = predictions(model)
    outcome = write(model, [values])
    assert outcome.written == list(values)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, values[name])
        assert before[name] == (parameter, parameter.data_ptr(), parameter.requires_grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_each_parameter_keeps_its_own_dtype_and_layout(dtype):
    model = ConvNet().to(dtype, memory_format=torch.channels_last)
    model.norm.float()
    values = predictions(model)
    write(model, [values])
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if name.startswith("norm") else dtype)
        assert torch.equal(parameter, values[name].to(parameter.dtype))


def test_optimiser_state_survives_and_training_goes_on():
    model = ConvNet()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    moment = optimiser.state[model.conv.weight]["exp_avg"].clone()
    values = predictions(model)
    write(model, [values])
    assert torch.equal(optimiser.state[model.conv.weight]["exp_avg"], moment)
    optimiser.step()
    assert not torch.equal(model.conv.weight, values["conv.weight"])


def test_a_tied_parameter_is_one_target_with_two_names():
    model = TiedNet()
    bound = bind(model, ["embed.weight", "out.weight"])
    assert list(bound.targets) == ["embed.weight"]
    assert bound.shares == {"out.weight": "embed.weight"}
    assert bound.held_by["embed.weight"] == ("embed.weight", "out.weight")
    write(bound, [{"embed.weight": torch.ones(12, 8), "out.weight": torch.zeros(12, 8)}])
    assert model.out.weight is model.embed.weight
    assert torch.equal(model.out.weight, torch.ones(12, 8))


def test_two_parameters_on_the_same_memory_are_written_once():
    model = TiedNet()
    model.out.weight = nn.Parameter(model.embed.weight.data)
    bound = bind(model, ["embed.weight", "out.weight"])
    assert bound.shares == {"out.weight": "embed.weight"}


def test_partly_overlapping_parameters_are_skipped_and_their_neighbours_written():
    model = nn.Module()
    memory = torch.zeros(6, 4)
    model.upper = nn.Parameter(memory[:4])
    model.lower = nn.Parameter(memory[3:])
    model.apart = nn.Parameter(torch.zeros(4))
    bound = bind(model, ["upper", "lower", "apart"])
    assert list(bound.targets) == ["apart"]
    assert "shares part of its memory with 'lower'" in bound.skipped["upper"]
    write(bound, [{"upper": torch.ones(4, 4), "lower": torch.ones(3, 4), "apart": torch.ones(4)}])
    assert model.apart.sum() == 4
    assert memory.sum() == 0


def test_interleaved_views_that_share_no_element_are_written():
    model = nn.Module()
    memory = torch.zeros(4, 6)
    model.left, model.right = nn.Parameter(memory[:, :3]), nn.Parameter(memory[:, 3:])
    write(model, [{"left": torch.ones(4, 3), "right": torch.full((4, 3), 2.0)}])
    assert memory[:, :3].sum() == 12
    assert memory[:, 3:].sum() == 24


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.complex64])
def test_dtypes_that_cannot_hold_a_prediction_are_skipped(dtype):
    model = ConvNet()
    model.conv.weight = nn.Parameter(torch.zeros(8, 8, 3, 3).to(dtype), requires_grad=False)
    bound = bind(model, ["stem.weight", "conv.weight"])
    assert list(bound.targets) == ["stem.weight"]
    assert str(dtype) in bound.skipped["conv.weight"]


def test_inference_tensors_are_skipped():
    with torch.inference_mode():
        model = ConvNet()
    bound = bind(model, ["conv.weight"])
    assert "inference mode" in bound.skipped["conv.weight"]


def test_a_caller_in_inference_mode_gets_ordinary_parameters_written():
    model = ConvNet()
    with torch.inference_mode():
        write(model, [predictions(model)])
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert model.conv.weight.grad is not None


@pytest.mark.parametrize(
    ("break_model", "message"),
    [
        (lambda m: setattr(m, "head", nn.LazyLinear(10)), "is lazy"),
        (lambda m: setattr(m.head, "bias", nn.Parameter(torch.zeros(1).expand(10))), "expanded"),
        (lambda m: m.to("meta"), "meta device"),
    ],
)
def test_models_that_are_not_ready_are_refused_before_anything_is_touched(break_model, message):
    model = ConvNet()
    break_model(model)
    before = Snapshot(model) if message != "is lazy" else None
    with pytest.raises(AssignError, match=message):
        bind(model, ["stem.weight"])
    assert before is None or before.changed() == []


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"conv.weight": torch.ones(8, 8)}, AssignError, r"\(8, 8, 3, 3\).*\(8, 8\)"),
        ({"norm.weight": torch.full((8,), float("nan"))}, PredictionError, "8 of 8 values are NaN"),
        ({"norm.weight": torch.full((8,), 1e39, dtype=torch.float64)}, PredictionError, "do not fit"),
        ({"nothing.weight": torch.ones(8)}, AssignError, "no module 'nothing'"),
        ({"norm.running_mean": torch.ones(8)}, AssignError, "is no parameter"),
        ({"norm.scale": torch.ones(8)}, AssignError, "no tensor 'scale'"),
    ],
)
def test_what_does_not_fit_raises_and_earlier_writes_are_put_back(values, error, message):
    model = ConvNet()
    before = Snapshot(model)
    with pytest.raises(error, match=message):
        write(model, [{"stem.weight": torch.ones(8, 3, 3, 3)}, values])
    assert before.changed() == []


def test_a_stream_that_ends_early_is_an_error():
    model = ConvNet()
    before = Snapshot(model)
    bound = bind(model, ["stem.weight", "conv.weight"])
    with pytest.raises(PredictionError, match=r"1 of 2 tensors, 'conv\.weight'"):
        write(bound, [{"stem.weight": torch.ones(8, 3, 3, 3)}])
    assert before.changed() == []
