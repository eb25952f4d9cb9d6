"""Filters of zero mean: which weights are centred, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
import torchvision

from ghn_init.ghn import GHN, GHNConfig
from ghn_init.graph import ArchGraph
from ghn_init.tracing.trace import trace


def ghn(**changes) -> GHN:
    torch.manual_seed(0)
    return GHN(
        GHNConfig(hid=16, layers=1, num_classes=10, max_shape=(16, 16, 3, 3), encoder="gated_gnn", **changes)
    )


@pytest.fixture(scope="module")
def mobile() -> ArchGraph:
    model = torchvision.models.mobilenet_v3_small(num_classes=10)
    return trace(model.eval(), torch.zeros(1, 3, 32, 32))


def test_filters_of_dense_weights_have_no_mean_and_all_else_is_as_without(mobile):
    before, after = ghn().predict(mobile), ghn(centre_weights=True).predict(mobile)
    head = ghn().head_slots(mobile)
    dense = {name for name, value in after.items() if value.dim() > 1 and value.shape[1] > 1} - set(head)
    assert len(dense) > 20
    for name, value in after.items():
        if name in dense:
            scale = before[name].abs().max()
            assert before[name].flatten(1).mean(1).abs().max() > 1e-3 * scale, name
            whole = value[:, : value.shape[1] // 16 * 16]  # the block as often as it fits
            if whole.shape[1]:
                assert whole.flatten(1).mean(1).abs().max() < 1e-5 * scale, name
        else:
            assert torch.equal(value, before[name]), name
    depthwise = [value for value in after.values() if value.dim() == 4 and value.shape[1] == 1]
    assert depthwise
    assert all(value.flatten(1).mean(1).abs().min() > 0 for value in depthwise)


def test_training_and_streaming_centre_alike(mobile):
    centred = ghn(centre_weights=True)
    predicted, trained = centred.predict(mobile), centred(mobile)
    for name, value in predicted.items():
        torch.testing.assert_close(trained[name], value, msg=name)
    loss = sum(value.sum() for name, value in trained.items() if value.dim() == 4 and value.shape[1] == 16)
    loss.backward()  # the sum of centred filters is constant
    weight = centred.decoder.output.weight
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-4


def test_a_configuration_without_the_field_is_of_a_ghn_that_does_not_centre():
    plain = GHNConfig(centre_weights=False).to_dict()
    assert "centre_weights" not in plain
    assert GHNConfig.from_dict(plain) == GHNConfig()
    centred = GHNConfig(centre_weights=True)
    assert GHNConfig.from_dict(centred.to_dict()) == centred
