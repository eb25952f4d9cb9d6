"""Statistics of parameters: right, cheap, and without any effect on what is written."""

from __future__ import annotations

import json
import math
import tracemalloc

import pytest
import torch
from states import IMAGE, ConvNet, TiedNet, tiny_ghn
from torch import nn
from torch.nn.utils import parametrizations

import ghn_init
from ghn_init.tensor_statistics import BINS, TensorStatistics, measure

GHN = tiny_ghn()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.randn(700, 900, generator=torch.Generator().manual_seed(0)),
        lambda: torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) * 20 + 100,
        lambda: torch.randn(600, 800, generator=torch.Generator().manual_seed(2)).t(),
        lambda: torch.randn(2, 600, 800, generator=torch.Generator().manual_seed(3)).permute(2, 0, 1),
        lambda: torch.randn(1200, 800, generator=torch.Generator().manual_seed(4))[::2, ::2],
        lambda: torch.tensor(3.0),
    ],
)
def test_moments_and_histogram_are_those_of_the_whole_tensor(build, dtype):
    tensor = build().to(dtype)
    exact = tensor.double()
    found = measure(tensor)
    assert found is not None
    assert found.count == tensor.numel()
    assert found.mean == pytest.approx(float(exact.mean()), rel=1e-5, abs=1e-7)
    assert found.std == pytest.approx(float(exact.std(correction=0)), rel=1e-5, abs=1e-7)
    assert found.norm == pytest.approx(float(exact.norm()), rel=1e-6)
    assert (found.minimum, found.maximum) == (float(exact.min()), float(exact.max()))
    assert sum(found.histogram) == tensor.numel()
    if tensor.numel() > 1:
        expected = torch.histc(exact.float(), BINS, found.minimum, found.maximum)
        assert list(found.histogram) == pytest.approx(expected.tolist(), abs=3)


def test_a_constant_and_values_that_are_not_finite():
    assert measure(torch.ones(10)) == TensorStatistics(
        10, 1.0, 0.0, math.sqrt(10), 1.0, 1.0, tuple(10 * (i == BINS // 2) for i in range(BINS))
    )
    mixed = measure(torch.tensor([1.0, math.nan, 3.0, math.inf]))
    assert mixed is not None
    assert (mixed.count, mixed.not_finite, mixed.mean) == (2, 2, 2.0)
    nothing = measure(torch.full((3,), math.nan))
    assert nothing is not None
    assert (nothing.count, nothing.not_finite) == (0, 3)


@pytest.mark.parametrize(
    "tensor", [torch.empty(3, device="meta"), torch.empty(0), torch.zeros(2, dtype=torch.complex64)]
)
def test_what_has_no_real_values_here_is_not_measured(tensor):
    assert measure(tensor) is None


def test_nothing_of_the_tensors_size_is_allocated():
    from torch.profiler import ProfilerActivity, profile

    tensor = torch.randn(1000, 8000).t()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        measure(tensor)
    largest = max((event.cpu_memory_usage for event in seen.events()), default=0)
    assert 0 < largest < tensor.numel() * 4 / 5


def test_apply_tells_before_and_after_and_writes_the_same_bits():
    plain, measured = ConvNet(classes=7), ConvNet(classes=7)
    measured.load_state_dict(plain.state_dict())
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    assert ghn_init.apply(plain, GHN, example_inputs=IMAGE).statistics == {}
    report = ghn_init.apply(measured, GHN, example_inputs=IMAGE, statistics=True)
    for name, value in measured.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])
    assert set(report.statistics) == {name for name, _ in measured.named_parameters()}
    for name, parameter in measured.named_parameters():
        change = report.statistics[name]
        assert change.before.norm == pytest.approx(float(before[name].norm()), rel=1e-5)
        assert change.after.norm == pytest.approx(float(parameter.norm()), rel=1e-5)
    assert report.statistics["head.weight"].before == report.statistics["head.weight"].after


def test_random_state_and_memory_of_python_are_left_alone():
    model = ConvNet()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tracemalloc.start()
    ghn_init.apply(model, GHN, example_inputs=IMAGE, statistics=True)
    tracemalloc.stop()
    assert torch.equal(torch.rand(2), expected)


def test_a_model_on_the_meta_device_has_no_before():
    with torch.device("meta"):
        model = ConvNet()
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE, materialize=True, statistics=True)
    change = report.statistics["conv.weight"]
    assert change.before is None
    assert change.after is not None


def test_tied_and_parametrised_parameters():
    report = ghn_init.apply(
        TiedNet(), GHN, example_inputs=torch.zeros(1, 4, dtype=torch.long), statistics=True
    )
    assert "out.weight" not in report.statistics
    model = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE, statistics=True)
    assert set(report.statistics) == {name for name, _ in model.named_parameters()}


def test_statistics_survive_json():
    report = ghn_init.apply(ConvNet(), GHN, example_inputs=IMAGE, statistics=True)
    again = ghn_init.InitReport.from_dict(json.loads(report.to_json()), report.graph)
    assert again.statistics == report.statistics
