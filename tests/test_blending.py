"""What ``apply`` makes of a prediction before it writes it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import AssignError, ConfigError
from ghn_init.blending import Blend, scale_free
from ghn_init.default import resolve_ghn


@pytest.fixture(scope="module")
def ghn():
    return resolve_ghn("bundled")


class Net(nn.Module):
    """Convolutions before a norm and not before one, a separable one, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 16, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.plain = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = self.norm2(self.pointwise(self.depthwise(x))).relu()
        return self.head(self.plain(x).relu().mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 1.5)
    return model


EXAMPLE = torch.zeros(1, 3, 8, 8)
FREE = {"stem.weight", "depthwise.weight", "pointwise.weight"}


def applied(ghn, blend, seed: int = 0, model: nn.Module | None = None) -> dict[str, torch.Tensor]:
    model = net() if model is None else model
    ghn_init.apply(model, ghn, example_inputs=EXAMPLE, blend=blend, seed=seed)
    return dict(model.named_parameters())


def rms(x: torch.Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_one_is_the_bare_prediction_and_zero_the_models_own_values(ghn):
    predicted = ghn_init.predict(net(), ghn, example_inputs=EXAMPLE)
    bare = applied(ghn, 1.0)
    assert predicted.keys() == bare.keys()
    assert all(torch.equal(value, bare[name]) for name, value in predicted.items())
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        before = copy.deepcopy(net().to(dtype))
        kept = applied(ghn, 0, model=copy.deepcopy(before))
        assert all(torch.equal(value, kept[name]) for name, value in before.named_parameters())


def test_a_share_keeps_the_variance_of_weights_and_lies_between_for_vectors(ghn):
    predicted = ghn_init.predict(net(), ghn, example_inputs=EXAMPLE)
    own, mixed = dict(net().named_parameters()), applied(ghn, 0.6)
    for name, value in mixed.items():
        base = 0.8 if value.dim() > 1 else 0.4
        torch.testing.assert_close(value, base * own[name] + 0.6 * predicted[name])
    kept = applied(ghn, Blend(0.6, vectors="keep"))
    assert torch.equal(kept["norm.weight"], own["norm.weight"])
    written = applied(ghn, Blend(0.6, vectors="predict"))
    assert torch.equal(written["norm.weight"], predicted["norm.weight"])


def test_a_kaiming_base_is_drawn_from_the_seed_and_the_name_alone(ghn):
    one, again, other = (applied(ghn, Blend(0, base="kaiming"), seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["stem.weight"], other["stem.weight"])
    assert rms(one["stem.weight"]) == pytest.approx((2 / 27) ** 0.5, rel=0.15)
    assert bool((one["norm.weight"] == 1).all())
    assert not one["plain.bias"].any()


def test_scaling_leaves_what_the_network_computes_and_moves_only_weights_before_norms(ghn):
    assert scale_free(ghn_init.trace(net(), EXAMPLE)) == FREE
    images = torch.randn(64, 3, 8, 8)
    bare, scaled = net(), net()
    applied(ghn, 1.0, model=bare)
    found = applied(ghn, Blend(scale=3.0), model=scaled)
    with torch.no_grad():
        torch.testing.assert_close(scaled(images), bare(images), rtol=2e-2, atol=2e-3)  # eps of the norms
    for name, value in bare.named_parameters():
        if name in FREE:
            fan_in = value[0].numel()
            assert rms(found[name]) == pytest.approx(3 * (2 / fan_in) ** 0.5, rel=1e-4)
        else:
            assert torch.equal(found[name], value)


def test_orthogonal_weights_are_orthogonal_and_keep_their_norm(ghn):
    bare, orthogonal = applied(ghn, 1.0), applied(ghn, Blend(orthogonal=True))
    rows = orthogonal["pointwise.weight"].detach().flatten(1)  # (16, 8)
    product = rows.T @ rows
    torch.testing.assert_close(product, product[0, 0] * torch.eye(8), rtol=1e-4, atol=1e-5)
    assert rms(rows) == pytest.approx(rms(bare["pointwise.weight"]), rel=1e-4)
    assert torch.equal(orthogonal["norm.weight"], bare["norm.weight"])


def test_noise_is_seeded_and_relative_to_each_weight(ghn):
    bare = applied(ghn, 1.0)
    noisy, again, other = (applied(ghn, Blend(noise=0.5), seed) for seed in (0, 0, 1))
    assert torch.equal(noisy["stem.weight"], again["stem.weight"])
    assert not torch.equal(noisy["stem.weight"], other["stem.weight"])
    added = rms(noisy["stem.weight"] - bare["stem.weight"]) / rms(bare["stem.weight"])
    assert added == pytest.approx(0.5, rel=0.2)


def test_blends_that_make_no_sense_change_nothing(ghn):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="share of the prediction is 0 to 1"):
        ghn_init.apply(model, ghn, example_inputs=EXAMPLE, blend=1.5)
    nn.utils.parametrizations.weight_norm(model.plain)
    with pytest.raises(AssignError, match="has no values at hand to blend with"):
        ghn_init.apply(model, ghn, example_inputs=EXAMPLE, blend=0.5)
    assert all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before
    )
    wrong: tuple[dict[str, Any], ...] = (
        {"noise": -1},
        {"scale": 0.0},
        {"base": "xavier"},
        {"vectors": "drop"},
    )
    for values in wrong:
        with pytest.raises(ConfigError, match="blend:"):
            Blend(**values)


def test_a_model_on_the_meta_device_blends_with_a_kaiming_draw(ghn):
    with torch.device("meta"):
        model = Net()
    ghn_init.apply(model, ghn, example_inputs=EXAMPLE, blend=Blend(0.5, base="kaiming"), materialize=True)
    same = applied(ghn, Blend(0.5, base="kaiming"))
    assert all(torch.equal(value, same[name]) for name, value in model.named_parameters())
