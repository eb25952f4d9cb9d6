"""What a prediction makes of synthetic images, and what ``apply`` does with models that it tells are far."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import timm
import torch
from states import ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import nn

import ghn_init
from ghn_init import GHN, ConfigError, GHNConfig, InitReport
from ghn_init.response import information, measure_response, synthetic_images
from ghn_init.training.floor import set_floor
from ghn_init.training.presets import load_preset

KNOWN, FAR = "resnet10t", "mobilenetv3_small_050"
IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.fixture(scope="module")
def bundled() -> GHN:
    return GHN.from_pretrained("bundled")


def test_information_is_none_for_equal_images_and_all_for_confident_different_ones():
    assert information(torch.zeros(16, 10)) == pytest.approx(0, abs=1e-9)
    assert information(torch.randn(1, 10).expand(16, 10)) == pytest.approx(0, abs=1e-6)
    assert information(50 * torch.eye(10)) == pytest.approx(1, abs=1e-6)
    assert information(50 * torch.eye(10).repeat(1, 100)[:, :1000]) <= 1
    assert information(torch.full((16, 10), torch.nan)) == 0


def test_synthetic_images_differ_and_are_always_the_same():
    images = synthetic_images(3, 32, 32)
    assert images.shape == (16, 3, 32, 32)
    assert torch.equal(images, synthetic_images(3, 32, 32))
    assert float(images.mean()) == pytest.approx(0, abs=1e-4)
    distances = torch.cdist(images.flatten(1), images.flatten(1)) + 1e9 * torch.eye(16)
    assert float(distances.min()) > 5
    assert synthetic_images(1, 20, 30).shape == (16, 1, 20, 30)


def test_a_known_family_responds_and_a_far_one_does_not(bundled: GHN):
    found = {}
    for name in (KNOWN, FAR):
        report = ghn_init.apply(timm.create_model(name, num_classes=10), bundled, far="warn")
        assert report.response is not None
        found[name] = report.response
    assert found[KNOWN].value > found[KNOWN].floor > found[FAR].value
    assert not found[KNOWN].is_far
    assert found[FAR].is_far


def test_warn_writes_the_same_and_says_so(bundled: GHN, caplog: pytest.LogCaptureFixture):
    torch.manual_seed(0)
    first = timm.create_model(FAR, num_classes=10)
    second = timm.create_model(FAR, num_classes=10)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING, "ghn_init"):
        plain = ghn_init.apply(first, bundled)
        assert "far from" not in caplog.text
        warned = ghn_init.apply(second, bundled, far="warn")
    assert "is far from what" in caplog.text
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert warned.predicted == plain.predicted
    assert plain.response is None


def test_keep_leaves_a_far_model_as_it_is_and_writes_a_known_one(bundled: GHN):
    far, known = (timm.create_model(name, num_classes=10) for name in (FAR, KNOWN))
    before = Snapshot(far)
    report = ghn_init.apply(far, bundled, far="keep")
    assert before.changed() == []
    assert not report.predicted
    assert set(report.kept) == {name for name, _ in far.named_parameters()}
    assert all("far from the GHN's training: response 0." in reason for reason in report.kept.values())
    again = InitReport.from_dict(json.loads(report.to_json()), report.graph)
    assert again.response == report.response
    assert "far      response 0." in str(report)
    plain = timm.create_model(KNOWN, num_classes=10)
    ghn_init.apply(known, bundled, far="keep")
    ghn_init.apply(plain, bundled)
    assert all(map(torch.equal, known.parameters(), plain.parameters()))


def test_the_model_itself_is_neither_run_nor_changed(bundled: GHN):
    model = timm.create_model(KNOWN, num_classes=10, drop_rate=0.5).train()
    graph = ghn_init.trace(model)
    calls: list[nn.Module] = []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    before, state = Snapshot(model), torch.get_rng_state()
    response = measure_response(model, bundled, graph)
    assert response is not None
    assert measure_response(model, bundled, graph) == response
    assert before.changed() == []
    assert model.training
    assert calls == []
    assert torch.equal(torch.get_rng_state(), state)


def test_a_classifier_of_other_classes_and_other_sizes_is_told_too(bundled: GHN):
    ten, many = (timm.create_model(KNOWN, num_classes=count) for count in (10, 1000))
    found = [measure_response(model, bundled, ghn_init.trace(model)) for model in (ten, many)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1].value == pytest.approx(found[0].value, abs=0.1)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2)  # takes images of 224 pixels only
    assert measure_response(vit, bundled, ghn_init.trace(vit)) is not None


def test_a_model_on_the_meta_device_is_told_where_all_of_it_is_predicted(bundled: GHN):
    with torch.device("meta"):
        model = timm.create_model(KNOWN, num_classes=10)
    report = ghn_init.apply(model, bundled, far="keep", materialize=True)
    assert report.response is not None
    assert report.predicted
    assert not any(parameter.is_meta for parameter in model.parameters())


class Fails(ConvNet):
    """A model that runs on stand-ins only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta" and not hasattr(x, "fake_mode"):
            raise RuntimeError("no such kernel")
        return super().forward(x)


def test_what_cannot_be_told_is_written_as_ever(bundled: GHN):
    tokens = TiedNet()
    found = ghn_init.apply(tokens, tiny_ghn(), example_inputs=torch.zeros(1, 4, dtype=torch.long), far="keep")
    backbone = timm.create_model(KNOWN, num_classes=0)
    told = [found, ghn_init.apply(backbone, bundled, far="keep")]
    for report in told:
        assert report.response is None
        assert report.predicted
    model = Fails()
    graph = ghn_init.trace(ConvNet(), IMAGE)
    assert ghn_init.apply(model, tiny_ghn(), graph=graph, example_inputs=IMAGE, far="keep").predicted


def test_an_untrained_ghn_knows_nothing_and_other_words_are_refused():
    model = ConvNet()
    before = Snapshot(model)
    assert ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE, far="keep").predicted == {}
    with pytest.raises(ConfigError, match="far must be one of"):
        ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE, far="skip")  # type: ignore[arg-type]
    assert before.changed() == []


def test_the_floor_is_set_by_networks_like_those_of_training_and_travels_with_the_ghn(tmp_path, bundled: GHN):
    ghn = GHN.from_pretrained("bundled")
    floor = set_floor(
        ghn, replace(load_preset("bundled"), families={"resnet": 1.0, "mixer": 1.0}), networks=10
    )
    assert 0.2 < floor < 0.9
    ghn.save_pretrained(tmp_path)
    assert GHN.from_pretrained(tmp_path).config.response_floor == floor
    assert "response_floor" not in bundled.config.to_dict()
    assert GHNConfig(response_floor=0.5).to_dict()["response_floor"] == 0.5
    for wrong in (-0.1, 1.5, True, "0.3"):
        with pytest.raises(ConfigError, match="response_floor must be a number from 0 to 1"):
            GHNConfig(response_floor=wrong)  # type: ignore[arg-type]
