"""Bad models, inputs and GHN files: one clear error, or a listed skip, and a model that is bit-equal."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from states import IMAGE, ConvNet, Snapshot, tiny_ghn
from torch import nn

import ghn_init
from ghn_init import CheckpointError, ConfigError, GHNInitError, InputError, PredictionError, TraceError

GHN = tiny_ghn()


def refused(
    model: nn.Module, error: type[GHNInitError], message: str, ghn: Any = GHN, **options: Any
) -> None:
    before = Snapshot(model)
    with pytest.raises(error, match=message) as caught:
        ghn_init.apply(model, ghn, **options)
    assert type(caught.value).__module__ == "ghn_init.errors"
    assert before.changed() == []


class NeedsTwo(ConvNet):
    def forward(self, x: torch.Tensor, flag: object) -> torch.Tensor:
        if not isinstance(flag, set):
            raise TypeError("flag must be a set")
        return super().forward(x)


def test_forward_that_fails_on_every_found_input():
    refused(NeedsTwo(), TraceError, "NeedsTwo")


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(1, 5, 8, 8), (), (IMAGE, IMAGE), {"image": IMAGE}, "not a tensor", torch.zeros(1, 3)],
    ids=["channels", "none", "two", "keyword", "string", "shape"],
)
def test_wrong_example_inputs(inputs):
    refused(ConvNet(), InputError, "ConvNet|input", example_inputs=inputs)


def test_model_without_parameters():
    refused(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)), TraceError, "no parameters", example_inputs=IMAGE)


def test_lazy_module():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyConv2d(4, 3))
    weight = model[0].weight.detach().clone()
    with pytest.raises(TraceError, match=r"1\.weight.*lazy"):
        ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert torch.equal(model[0].weight, weight)
    assert nn.parameter.is_lazy(model[1].weight)


def test_scripted_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(ConvNet().eval(), IMAGE)
    refused(scripted, TraceError, "scripted", example_inputs=IMAGE)


def test_quantised_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = torch.ao.quantization.quantize_dynamic(ConvNet().eval(), {nn.Linear})
        except (AttributeError, RuntimeError) as error:
            pytest.skip(f"this torch cannot quantise: {error}")
    refused(model, TraceError, "quantised", example_inputs=IMAGE)


def test_expanded_parameter():
    model = ConvNet()
    model.head.bias = nn.Parameter(torch.zeros(1).expand(10))
    refused(model, TraceError, r"head\.bias.*stride 0", example_inputs=IMAGE)


def test_not_a_module():
    with pytest.raises(GHNInitError, match=r"torch\.nn\.Module"):
        ghn_init.apply(lambda x: x, GHN)  # type: ignore[arg-type]


class Overlapping(ConvNet):
    """Two convolutions on windows of one tensor, the second of which starts inside the first."""

    def __init__(self) -> None:
        super().__init__()
        memory = torch.randn(12, 8, 3, 3)
        self.conv.weight = nn.Parameter(memory[:8])
        self.again = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.again.weight = nn.Parameter(memory[4:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.again(self.conv(self.norm(self.stem(x)))).mean((2, 3)))


def test_shared_storage_views_are_listed_and_left_alone_while_the_rest_is_written(caplog):
    model = Overlapping()
    before = Snapshot(model)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert set(report.skipped) == {"conv.weight", "again.weight"}
    assert not {"conv.weight", "again.weight"} & set(before.changed())
    assert "stem.weight" in before.changed()
    assert any("shares part of its memory" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_ghn_in_memory_whose_weights_are_not_finite(value):
    ghn = tiny_ghn()
    with torch.no_grad():
        next(p for name, p in ghn.named_parameters() if name.startswith("vectors.output")).fill_(value)
    refused(ConvNet(), PredictionError, r"NaN or infinity for stem\.bias", ghn, example_inputs=IMAGE)


def test_prediction_too_large_for_half_precision():
    ghn = tiny_ghn(weight_norm=False)
    with torch.no_grad():
        for parameter in ghn.vectors.parameters():
            parameter.fill_(100.0)
    refused(ConvNet().half(), PredictionError, "do not fit torch.float16", ghn, example_inputs=IMAGE)


@pytest.mark.parametrize("ghn", [None, False, 3, object()])
def test_something_that_names_no_ghn(ghn):
    refused(ConvNet(), ConfigError, "ghn must be True", ghn, example_inputs=IMAGE)


@pytest.mark.parametrize("argument", [{"head": "maybe"}, {"method": "magic"}])
def test_unknown_options(argument):
    refused(ConvNet(), GHNInitError, next(iter(argument.values())), example_inputs=IMAGE, **argument)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_ghn().save_pretrained(tmp_path / "ghn")


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"hid": ')


def resave(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def wrong_shape(folder: Path) -> None:
    resave(folder, lambda tensors: tensors.update({"vectors.hidden.weight": torch.zeros(3, 3)}))


def missing_tensor(folder: Path) -> None:
    resave(folder, lambda tensors: tensors.pop("vectors.hidden.weight"))


def not_finite(folder: Path) -> None:
    resave(folder, lambda tensors: tensors["vectors.hidden.weight"].fill_(float("nan")))


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    resave(folder, lambda tensors: None)


def other_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    reconfigure(folder, primitives=[*config["primitives"][::-1]])


def longer_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    reconfigure(folder, primitives=[*config["primitives"], "deformable_conv"])


def unknown_encoder(folder: Path) -> None:
    reconfigure(folder, encoder="mamba")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncated, CheckpointError, "truncated or damaged"),
        (empty, CheckpointError, "truncated or damaged"),
        (no_weights, CheckpointError, r"has no model\.safetensors"),
        (no_config, CheckpointError, r"has no config\.json"),
        (broken_json, CheckpointError, "not valid JSON"),
        (wrong_shape, CheckpointError, r"vectors\.hidden\.weight is \(3, 3\)"),
        (missing_tensor, CheckpointError, r"missing tensors: vectors\.hidden\.weight"),
        (not_finite, CheckpointError, r"vectors\.hidden\.weight has \d+ NaN"),
        (other_vocabulary, ConfigError, "operation types"),
        (longer_vocabulary, ConfigError, "deformable_conv"),
        (unknown_encoder, ConfigError, "mamba"),
    ],
)
def test_damaged_ghn_folder(folder, damage, error, message):
    damage(folder)
    refused(ConvNet(), error, message, folder, example_inputs=IMAGE)


class Exploit:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", ["pickle", "torch", "joblib"])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, writer):
    trace, file = tmp_path / "executed", tmp_path / "ghn.pt"
    state = {"embed.weight": Exploit(trace)}
    if writer == "pickle":
        file.write_bytes(pickle.dumps(state))
    elif writer == "torch":
        torch.save({"state_dict": state, "config": {}}, file)
    else:
        pytest.importorskip("joblib").dump(state, file)
    refused(ConvNet(), CheckpointError, "ghn.pt", file, example_inputs=IMAGE)
    assert not trace.exists()


def test_path_that_does_not_exist(tmp_path):
    refused(ConvNet(), CheckpointError, "does not exist", tmp_path / "nothing", example_inputs=IMAGE)
