"""Accuracy before and along training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ghn_init import GHN, DataError, GHNConfig
from ghn_init.training.data import fashion_mnist
from ghn_init.training.evaluate import ZeroShot, accuracy, fine_tune, zero_shot
from ghn_init.training.order import Shuffled, draw
from ghn_init.training.real import SEEN_FAMILIES, UNSEEN_FAMILIES, build
from ghn_init.training.spaces import Space, held_out


@pytest.fixture(scope="module")
def test_images():
    return fashion_mnist("test", "bundled").head(128)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(32, 10))


def test_accuracy_counts_right_answers_and_never_infinite_ones(test_images):
    labels = iter(test_images.labels.split(64))
    assert accuracy(lambda images: nn.functional.one_hot(next(labels), 10).float(), test_images) == 1.0
    always = float((test_images.labels == 3).float().mean())
    assert accuracy(lambda images: torch.eye(10)[3].expand(len(images), 10), test_images) == always
    broken = torch.full((10,), float("nan"))
    assert accuracy(lambda images: broken.expand(len(images), 10), test_images) == 0.0


def test_an_untrained_ghn_is_at_chance_and_what_fails_is_told(test_images):
    torch.manual_seed(0)
    ghn = GHN(GHNConfig(hid=16, layers=1, heads=4, num_classes=10, max_shape=(16, 16, 3, 3)))
    chosen = {**{f"cells {i}": each for i, each in enumerate(held_out("cells", 3))}, "flat": nn.Linear(7, 10)}
    result = zero_shot(ghn, chosen, test_images)
    assert set(result.accuracies) == {"cells 0", "cells 1", "cells 2"}
    assert set(result.failed) == {"flat"}
    assert 0.0 <= result.mean < 0.35
    assert "over 3 networks" in str(result)
    assert ZeroShot({"one": 0.5}).standard_error == 0.0


def test_a_module_that_is_evaluated_is_left_as_it_is(test_images):
    model = small_net().train()
    before = copy.deepcopy(model.state_dict())
    ghn = GHN(GHNConfig(hid=16, layers=1, heads=4, num_classes=10, max_shape=(16, 16, 3, 3)))
    zero_shot(ghn, {"net": model}, test_images)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fine_tuning_learns_and_repeats_itself(test_images):
    data = fashion_mnist("train", "bundled").head(1000)
    first, second = small_net(), small_net()
    curve = fine_tune(first, data, test_images, steps=40, marks=(0, 20), lr=0.1, seed=1)
    again = fine_tune(second, data, test_images, steps=40, marks=(0, 20), lr=0.1, seed=1)
    assert curve.steps == [0, 20, 40]
    assert curve == again
    assert curve.accuracies[-1] > curve.accuracies[0] + 0.2
    with pytest.raises(DataError, match="fewer than one batch"):
        fine_tune(small_net(), data.head(10), test_images)


def test_orders_are_permutations_and_functions_of_their_position():
    order = Shuffled(10, seed=3)
    epoch = order.take(0, 10)
    assert sorted(epoch) == list(range(10))
    assert order.take(5, 10)[:5] == epoch[5:]
    assert sorted(order.take(20, 10)) == list(range(10))
    assert order.take(10, 10) != epoch
    assert [draw(7, 0, i) for i in range(30)] == [draw(7, 0, i) for i in range(30)]
    assert {draw(7, 0, i) for i in range(200)} == set(range(7))


@pytest.mark.slow
def test_the_timm_models_of_the_evaluation_are_never_drawn():
    def shapes(model: nn.Module) -> tuple[tuple[int, ...], ...]:
        return tuple(sorted(tuple(parameter.shape) for parameter in model.parameters()))

    with torch.device("meta"):
        real = {shapes(model) for model in build({**SEEN_FAMILIES, **UNSEEN_FAMILIES}).values()}
    families = ("resnet", "mobile", "regnet", "convnext", "vit", "mixer")
    drawn = Space(dict.fromkeys(families, 1.0))
    assert real.isdisjoint(shapes(drawn[i].build()) for i in range(300))
