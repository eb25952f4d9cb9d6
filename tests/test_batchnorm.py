"""Running statistics estimated from data."""

from __future__ import annotations

import pytest
import torch
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import googlenet

import ghn_init
from ghn_init import DataError, calibrate_batchnorm


def images(count: int = 24) -> torch.Tensor:
    return 3 * torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1


class Deep(nn.Module):
    """Two batch norms, with dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.second = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.drop(self.first(x)))


def test_statistics_are_the_averages_over_the_data_weighted_by_batch_size():
    model = nn.Sequential(nn.BatchNorm2d(3))
    data = images(20)
    assert calibrate_batchnorm(model, data.split(8)) == ["0"]
    parts = [part.transpose(0, 1).flatten(1) for part in data.split(8)]
    weights = torch.tensor([part.shape[1] for part in parts]) / sum(part.shape[1] for part in parts)
    mean = sum(w * part.mean(1) for w, part in zip(weights, parts, strict=True))
    var = sum(w * part.var(1) for w, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(model[0].running_mean, mean)
    torch.testing.assert_close(model[0].running_var, var)


def test_one_batch_of_everything_makes_evaluation_equal_training_up_to_the_unbiased_variance():
    model = ConvNet()
    ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE)
    data = images(64)
    calibrate_batchnorm(model, [data])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(data), model.train()(data), rtol=1e-2, atol=1e-2)


def test_dropout_is_off_while_the_statistics_are_taken():
    model = Deep().train()
    calibrate_batchnorm(model, [images()])
    torch.testing.assert_close(model.second.running_var, torch.ones(3), rtol=1e-2, atol=0)


def test_weights_modes_momentum_and_hooks_are_as_before():
    model = Deep().train()
    model.first.eval()
    model.second.momentum = None
    modes = [module.training for module in model.modules()]
    weights = [parameter.clone() for parameter in model.parameters()]
    calibrate_batchnorm(model, images().split(8))
    assert [module.training for module in model.modules()] == modes
    assert (model.first.momentum, model.second.momentum) == (0.1, None)
    assert not model.first._forward_pre_hooks
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("form", ["tensor", "pair", "mapping", "loader"])
def test_forms_of_batches(form):
    class ByName(ConvNet):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels)

    data = images()
    batches = {
        "tensor": data.split(8),
        "pair": [(part, torch.zeros(8)) for part in data.split(8)],
        "mapping": [{"pixels": part, "labels": torch.zeros(8)} for part in data.split(8)],
        "loader": DataLoader(TensorDataset(data), batch_size=8),
    }
    torch.manual_seed(0)
    model = ByName()
    calibrate_batchnorm(model, batches[form])
    torch.manual_seed(0)
    reference = ConvNet()
    calibrate_batchnorm(reference, [0, 1, 2], forward=lambda m, i: m(data[8 * i : 8 * i + 8]))
    torch.testing.assert_close(model.norm.running_mean, reference.norm.running_mean)


def test_only_the_first_batches_are_used():
    model, reference = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    calibrate_batchnorm(model, images().split(8), batches=2)
    calibrate_batchnorm(reference, images()[:16].split(8))
    assert torch.equal(model[0].running_mean, reference[0].running_mean)


def test_layers_that_the_forward_does_not_reach_keep_their_statistics():
    model = googlenet(init_weights=False, num_classes=10).train()
    model.aux1.conv.bn.running_mean.fill_(7.0)
    done = calibrate_batchnorm(model, [torch.randn(4, 3, 64, 64)])
    assert "conv1.bn" in done
    assert "aux1.conv.bn" not in done
    assert torch.equal(model.aux1.conv.bn.running_mean, torch.full((128,), 7.0))


@pytest.mark.parametrize("fault", [RuntimeError("no data left on device"), KeyboardInterrupt()])
def test_a_fault_puts_the_statistics_back(fault):
    model = ConvNet()
    model.norm.running_mean.fill_(5.0)
    before = Snapshot(model)

    def loader():
        yield images(8)
        raise fault

    with pytest.raises(type(fault)):
        calibrate_batchnorm(model, loader())
    assert before.changed() == []
    assert model.norm.momentum == 0.1
    assert not model.norm._forward_pre_hooks


@pytest.mark.parametrize(
    ("model", "loader", "message"),
    [
        (TiedNet(), [torch.zeros(1, 2, dtype=torch.long)], "no layer with running"),
        (ConvNet(), [], "no batch"),
    ],
)
def test_nothing_to_do_is_an_error(model, loader, message):
    with pytest.raises(DataError, match=message):
        calibrate_batchnorm(model, loader)
