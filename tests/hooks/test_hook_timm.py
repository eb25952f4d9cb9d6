"""timm.create_model(..., ghn_init=...)."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import timm
import torch
from hook_checks import differing, same_bits, seeded
from torch import nn

import ghn_init
from ghn_init.errors import HookError
from ghn_init.report import report_of

ARCH = "test_resnet"
FEATURES = ["list", "dict", "hook", "fx", "getter"]


def make(**kwargs) -> nn.Module:
    return seeded(timm.create_model, ARCH, num_classes=10, **kwargs)


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    return make()


@pytest.fixture(scope="module")
def checkpoint(plain: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timm") / "weights.pth"
    torch.manual_seed(7)
    torch.save({name: value + torch.rand(()).to(value) for name, value in plain.state_dict().items()}, path)
    return path


def test_create_model_equals_apply_on_the_built_model(ghn, plain):
    model = make(ghn_init=ghn)
    applied = make()
    ghn_init.apply(applied, ghn)
    assert same_bits(model, applied)
    report = report_of(model)
    assert report is not None
    assert set(report.predicted) <= differing(model, plain) | set(report.predicted)
    assert len(report.predicted) + len(report.kept) + len(report.skipped) == len(list(plain.parameters()))
    assert len(differing(model, plain) & set(report.predicted)) > len(report.predicted) // 2


def test_a_path_is_as_good_as_the_object(ghn, ghn_folder):
    assert same_bits(make(ghn_init=ghn), make(ghn_init=str(ghn_folder)))
    assert same_bits(make(ghn_init=ghn), make(ghn_init=ghn_folder))


@pytest.mark.parametrize("argument", [{}, {"ghn_init": None}, {"ghn_init": False}])
def test_nothing_changes_without_a_ghn(argument, plain):
    model = make(**argument)
    after = torch.rand(3)
    ghn_init.unpatch()
    original = make()
    assert torch.equal(torch.rand(3), after)
    assert same_bits(model, original)
    assert report_of(model) is None
    assert getattr(model, "_model_args", None) == getattr(original, "_model_args", None)
    assert set(vars(model)) == set(vars(original))


def test_model_args_and_signature_stay_clean(ghn):
    model = make(ghn_init=ghn)
    assert "ghn_init" not in getattr(model, "_model_args", {})
    hooked = inspect.signature(timm.create_model)
    ghn_init.unpatch()
    assert inspect.signature(timm.create_model) == hooked


def test_the_rng_stream_is_the_one_of_a_plain_build(ghn):
    make(ghn_init=ghn)
    after = torch.rand(3)
    make()
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("classes", [10, 7])
def test_in_chans_and_num_classes(ghn, classes):
    model = timm.create_model(ARCH, ghn_init=ghn, in_chans=1, num_classes=classes)
    report = report_of(model)
    assert model.conv1[0].weight.shape[1] == 1
    assert "conv1.0.weight" in report.predicted
    head = report.predicted if classes == 10 else report.kept
    assert {"fc.weight", "fc.bias"} <= set(head)


@pytest.mark.parametrize("feature_cls", FEATURES)
def test_features_only_is_initialised_before_it_is_wrapped(ghn, feature_cls):
    whole = make(ghn_init=ghn)
    features = seeded(
        timm.create_model, ARCH, num_classes=10, ghn_init=ghn, features_only=True, feature_cls=feature_cls
    )
    values = sorted(tuple(value.flatten()[:4].tolist()) for value in whole.parameters())
    found = [tuple(value.flatten()[:4].tolist()) for value in features.parameters()]
    assert found
    assert all(value in values for value in found)
    assert report_of(features) is not None
    assert len(features(torch.rand(1, 3, 64, 64))) >= 4


def test_checkpoint_path_wins_over_the_ghn(ghn, checkpoint):
    model = make(ghn_init=ghn, checkpoint_path=str(checkpoint))
    saved = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_pretrained_wins_and_the_ghn_keeps_what_the_checkpoint_lacks(ghn, checkpoint):
    overlay = {"file": str(checkpoint), "num_classes": 5}
    saved = torch.load(checkpoint, weights_only=True)
    model = make(ghn_init=ghn, pretrained=True, pretrained_cfg_overlay=overlay)
    bare = make(ghn_init=ghn)
    assert {"fc.weight", "fc.bias"} <= set(report_of(model).predicted)
    for name, value in model.state_dict().items():
        expected = bare.state_dict()[name] if name.startswith("fc.") else saved[name]
        assert torch.equal(value, expected), name


def test_meta_device_is_refused_when_asked_for_and_left_alone_in_a_block(ghn, caplog):
    with torch.device("meta"), pytest.raises(HookError, match="meta device"):
        make(ghn_init=ghn)
    with torch.device("meta"), ghn_init.enabled(ghn), caplog.at_level("WARNING", "ghn_init"):
        model = make()
    assert all(parameter.is_meta for parameter in model.parameters())
    assert "meta device" in caplog.text


def test_entry_points_are_initialised_in_a_block(ghn):
    with ghn_init.enabled(ghn):
        direct = seeded(timm.models.resnet.test_resnet, num_classes=10)
    assert same_bits(direct, make(ghn_init=ghn))


class Custom(nn.Module):
    """A registered model that is not built through timm's builder."""

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, 16, 16)}
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Stacked(nn.Module):
    """A registered model around another timm model."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, 64, 64)}
        self.backbone = backbone
        self.fc = nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(x))


def ghn_init_custom(**_):
    return Custom()


def ghn_init_stacked(inner=None, **_):
    return Stacked(timm.create_model(ARCH, num_classes=10, **(inner or {})))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in (ghn_init_custom, ghn_init_stacked):
        monkeypatch.setitem(timm.models._registry._model_entrypoints, entry.__name__, entry)


@pytest.mark.usefixtures("registered")
def test_registered_models_outside_the_builder(ghn, tmp_path):
    model = seeded(timm.create_model, "ghn_init_custom", ghn_init=ghn)
    applied = seeded(Custom)
    ghn_init.apply(applied, ghn)
    assert same_bits(model, applied)
    torch.save(seeded(Custom).state_dict(), tmp_path / "custom.pth")
    loaded = timm.create_model("ghn_init_custom", ghn_init=ghn, checkpoint_path=str(tmp_path / "custom.pth"))
    assert same_bits(loaded, seeded(Custom))


@pytest.mark.usefixtures("registered")
def test_a_model_that_loads_its_own_weights_is_refused(ghn, caplog):
    with pytest.raises(HookError, match="loads its pretrained weights itself"):
        timm.create_model("ghn_init_custom", pretrained=True, ghn_init=ghn)
    with ghn_init.enabled(ghn), caplog.at_level("WARNING", "ghn_init"):
        model = seeded(timm.create_model, "ghn_init_custom", pretrained=True)
    assert same_bits(model, seeded(Custom))
    assert "loads its pretrained weights itself" in caplog.text


@pytest.mark.usefixtures("registered")
def test_a_nested_model_is_a_part_of_the_whole_unless_it_has_its_own_argument(ghn, ghn_folder):
    whole = seeded(timm.create_model, "ghn_init_stacked", ghn_init=ghn)
    applied = Stacked(make())
    ghn_init.apply(applied, ghn)
    predicted = set(report_of(whole).predicted)
    assert {"fc.weight", "backbone.conv1.0.weight"} <= predicted
    assert not predicted & differing(whole, applied)
    apart = seeded(timm.create_model, "ghn_init_stacked", ghn_init=ghn, inner={"ghn_init": str(ghn_folder)})
    assert same_bits(apart.backbone, make(ghn_init=ghn))
    assert set(report_of(apart).predicted) == {"fc.weight", "fc.bias"}
    left = seeded(timm.create_model, "ghn_init_stacked", ghn_init=ghn, inner={"ghn_init": False})
    assert same_bits(left.backbone, make())


@pytest.mark.usefixtures("registered")
def test_a_nested_checkpoint_is_left_alone(ghn, checkpoint):
    saved = torch.load(checkpoint, weights_only=True)
    model = timm.create_model("ghn_init_stacked", ghn_init=ghn, inner={"checkpoint_path": str(checkpoint)})
    assert all(torch.equal(value, saved[name]) for name, value in model.backbone.state_dict().items())
    assert set(report_of(model).predicted) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    "missing", [["resolve_pretrained_cfg"], ["resolve_pretrained_cfg", "load_pretrained"]]
)
def test_other_layouts_of_the_builder(ghn, checkpoint, missing):
    """A builder without one of its private functions: the same values, found at a later moment."""
    from timm.models import _builder

    expected = make(ghn_init=ghn)
    ghn_init.unpatch()
    held = {name: vars(_builder)[name] for name in missing}
    try:
        for name in missing:
            delattr(_builder, name)
        ghn_init.patch()
        for name, function in held.items():
            setattr(_builder, name, function)
        assert same_bits(make(ghn_init=ghn), expected)
        overlay = {"file": str(checkpoint), "num_classes": 5}
        if len(missing) == 1:
            model = make(ghn_init=ghn, pretrained=True, pretrained_cfg_overlay=overlay)
            assert torch.equal(model.fc.weight, expected.fc.weight)
            assert not torch.equal(model.conv1[0].weight, expected.conv1[0].weight)
        else:
            with pytest.raises(HookError, match="itself"):
                make(ghn_init=ghn, pretrained=True, pretrained_cfg_overlay=overlay)
    finally:
        for name, function in held.items():
            setattr(_builder, name, function)
        ghn_init.unpatch()


def test_a_constructor_that_raises_leaves_nothing_behind(ghn, plain):
    with pytest.raises(TypeError):
        make(ghn_init=ghn, no_such_argument=1)
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model("no_such_model", ghn_init=ghn)
    assert same_bits(make(), plain)
    assert report_of(make()) is None


@pytest.mark.parametrize("wrong", [3, 0.5, nn.Linear(2, 2), object()])
def test_other_types_are_refused(wrong):
    with pytest.raises(TypeError, match="ghn_init must be"):
        make(ghn_init=wrong)
    with pytest.raises(TypeError, match="ghn_init must be"), ghn_init.enabled(wrong):
        pass
