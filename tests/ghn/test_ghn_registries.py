"""Encoders and decoders of one's own: named in the configuration, saved and loaded like the built-in ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.ghn import Encoder, WeightDecoder, register_decoder, register_encoder
from ghn_init.ghn.decoders import DECODERS
from ghn_init.ghn.encoders import ENCODERS


@pytest.fixture
def parts():
    @register_encoder("mean")
    class Mean(Encoder):
        """Each node hears the mean of its graph."""

        def __init__(self, config):
            super().__init__(config)
            self.mix = nn.Linear(2 * config.hid, config.hid)

        def forward(self, x, batch):
            lengths = [len(structure) for structure in batch.structures]
            means = torch.cat([part.mean(0, keepdim=True).expand_as(part) for part in x.split(lengths)])
            return self.mix(torch.cat([x, means], dim=1))

    @register_decoder("outer")
    class Outer(WeightDecoder):
        """A product of one vector for each axis."""

        def __init__(self, config):
            super().__init__(config)
            out, into, side, _ = config.max_shape
            self.rows = nn.Linear(config.hid, out)
            self.columns = nn.Linear(config.hid, into * side * side)
            self.classes = nn.Linear(config.hid, config.num_classes)
            self.into, self.side = into, side

        def forward(self, x: Tensor, out: int, into: int, kernel: tuple[int, int]) -> Tensor:
            columns = self.columns(x).unflatten(1, (self.into, self.side, self.side))
            rows = self.rows(x)[:, :out, None, None, None]
            return rows * columns[:, None, :into, : kernel[0], : kernel[1]]

        def class_weight(self, x: Tensor, into: int) -> Tensor:
            columns = self.columns(x).unflatten(1, (self.into, -1))[:, None, :into, :1, None]
            return self.classes(x)[:, :, None, None, None] * columns

        def last_layers(self):
            return self.rows, self.columns

    yield
    del ENCODERS["mean"], DECODERS["outer"]


@pytest.mark.usefixtures("parts")
def test_own_parts_predict_learn_and_are_saved(tmp_path):
    torch.manual_seed(0)
    config = ghn_init.GHNConfig(
        hid=16, encoder="mean", decoder="outer", num_classes=10, max_shape=(16, 16, 3, 3)
    )
    ghn = ghn_init.GHN(config)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    inputs = (torch.zeros(1, 3, 8, 8),)
    graph = ghn_init.trace(model, inputs)

    sum(tensor.square().sum() for tensor in ghn(graph).values()).backward()
    assert all(parameter.grad is not None for parameter in ghn.encoder.parameters())
    assert all(parameter.grad is not None for parameter in ghn.decoder.parameters())

    ghn.save_pretrained(tmp_path)
    report = ghn_init.apply(model, ghn_init.GHN.from_pretrained(tmp_path), example_inputs=inputs)
    assert not report.kept
    for name, tensor in ghn.predict(graph).items():
        assert torch.equal(model.get_parameter(name), tensor)


def test_a_file_whose_parts_are_not_registered_says_so(parts, tmp_path):
    config = ghn_init.GHNConfig(hid=16, encoder="mean", num_classes=10, max_shape=(16, 16, 3, 3))
    ghn_init.GHN(config).save_pretrained(tmp_path)
    encoder = ENCODERS.pop("mean")
    try:
        with pytest.raises(ghn_init.GHNInitError, match="no encoder is registered as 'mean'"):
            ghn_init.GHN.from_pretrained(tmp_path)
    finally:
        ENCODERS["mean"] = encoder
