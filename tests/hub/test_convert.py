"""The original layout and arguments become this library's, or an error says which tensor does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from parity import PARITY
from safetensors.torch import load_file
from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.model import GHN
from ghn_init.hub.convert import convert, convert_checkpoint

CHECKPOINTS = PARITY / "checkpoints"
CONFIGS = json.loads((CHECKPOINTS / "configs.json").read_text())
NAMES = ("ghn3-tiny", "ghn2-tiny", "ghn1-tiny")


def original(name: str) -> dict[str, Tensor]:
    return load_file(CHECKPOINTS / f"{name}.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_explicit_arguments_give_the_named_conventions(name: str) -> None:
    config, state = convert(original(name), CONFIGS[name]["config"])
    read = GHNConfig.from_dict(config)
    given = CONFIGS[name]["config"]
    graphormer = name == "ghn3-tiny"
    assert (read.encoder, read.kernel_crop) == (
        ("graphormer", "centre") if graphormer else ("gated_gnn", "top_left")
    )
    assert (read.class_layer, read.graph_convention) == ("last_nodes", "ghn3")
    assert (read.weight_norm, read.virtual_edges, read.layernorm) == (
        given["weight_norm"],
        given["ve"],
        given["layernorm"],
    )
    assert (read.hid, read.num_classes, list(read.max_shape)) == (
        given["hid"],
        given["num_classes"],
        given["max_shape"],
    )
    assert sum(tensor.numel() for tensor in state.values()) == CONFIGS[name]["n_params"]


@pytest.mark.parametrize("name", ["ghn3-tiny", "ghn2-tiny"])
def test_the_configuration_is_inferred_from_the_shapes(name: str) -> None:
    assert convert(original(name))[0] == convert(original(name), CONFIGS[name]["config"])[0]


def test_both_places_of_the_node_embeddings_are_read() -> None:
    top = original("ghn3-tiny")
    moved = {
        f"gnn.0.{name}" if name.startswith(("centrality", "input_dist")) else name: tensor
        for name, tensor in top.items()
    }
    assert set(moved) != set(top)
    expected, got = convert(top)[1], convert(moved)[1]
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("size", "hid", "parameters"),
    [("T", 64, 6_906_632), ("XL", 384, 654_365_184)],
)
def test_the_released_sizes_of_ghn3_fit(size: Any, hid: int, parameters: int) -> None:
    """A state dict of the released shapes, on the meta device: heads and layers as the authors give them."""
    with torch.device("meta"):
        ours = GHN(GHNConfig.ghn3(size)).state_dict()
    config, state = convert(in_original_layout(ours))
    assert GHNConfig.from_dict(config) == GHNConfig.ghn3(size)
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }
    assert config["hid"] == hid
    assert sum(tensor.numel() for tensor in state.values()) == parameters


def test_the_released_ghn2_fits() -> None:
    with torch.device("meta"):
        ours = GHN(GHNConfig.ghn2()).state_dict()
    config, state = convert(in_original_layout(ours))
    assert GHNConfig.from_dict(config) == GHNConfig.ghn2()
    assert sum(tensor.numel() for tensor in state.values()) == 1_749_464


def in_original_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the original code for ours, found by converting a tiny checkpoint of the same kind."""
    kind = "ghn3-tiny" if "encoder.in_degree.weight" in state else "ghn2-tiny"
    marked = {name: torch.full_like(tensor, i) for i, (name, tensor) in enumerate(original(kind).items())}
    names = list(marked)
    renamed = {new: names[int(tensor.flatten()[0])] for new, tensor in convert(marked)[1].items()}
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    for index in layers:
        for new, old in list(renamed.items()):
            if new.startswith("encoder.layers.1."):
                there = old.replace("gnn.1.", f"gnn.{index}.")
                renamed[new.replace("layers.1.", f"layers.{index}.")] = there
    return {renamed[name]: tensor for name, tensor in state.items()}


def without(name: str) -> Any:
    return lambda state: state.pop(name)


def shaped(name: str, *shape: int) -> Any:
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("gnn.1.ff.net.3.bias"), r"gnn\.1\.ff\.net\.3\.bias is missing"),
        (without("centrality_embed_in.weight"), r"centrality_embed_in\.weight is missing"),
        (without("embed.weight"), r"no tensor embed\.weight"),
        (shaped("ln.weight", 31), r"ln\.weight is \(31,\), not \(32,\)"),
        (shaped("gnn.0.attn.to_qkv.weight", 96), r"to_qkv\.weight is \(96,\), not \(96, 32\)"),
        (shaped("decoder.conv.2.weight", 1024, 255), r"decoder\.conv\.2\.weight is \(1024, 255\)"),
        (shaped("embed.weight", 16, 32), "16 primitive operations and this version knows 15"),
        (shaped("extra.weight", 2), r"extra\.weight is unknown"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, said: str) -> None:
    state = original("ghn3-tiny")
    change(state)
    with pytest.raises(CheckpointError, match=said):
        convert(state, where="the file")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("ghn3-tiny", {"hid": 64}, "hid=64, its tensors 32"),
        ("ghn3-tiny", {"layers": 3}, "layers=3, its tensors 2"),
        ("ghn3-tiny", {"heads": 4}, "heads=4, its tensors 8"),
        ("ghn3-tiny", {"is_ghn2": True}, "is_ghn2"),
        (
            "ghn3-tiny",
            {"num_classes": 10},
            r"class_layer_predictor\.1\.weight is \(1000, 32\), not \(10, 32\)",
        ),
        ("ghn2-tiny", {"ve": False}, r"gnn\.mlp\.fc\.0\.weight is"),
        ("ghn2-tiny", {"hypernet": "mlp"}, "hypernet='mlp' is not supported"),
        ("ghn2-tiny", {"decoder": "mlp"}, "decoder='mlp' is not supported"),
        ("ghn2-tiny", {"surprise": 1}, "unknown arguments in its configuration: surprise"),
        ("ghn2-tiny", {"max_shape": [32, 32]}, "max_shape must be four integers"),
        ("ghn2-tiny", {"max_shape": [32, 32, 16, 16]}, r"decoder\.fc\.0\.weight is"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        convert(original(name), {**CONFIGS[name]["config"], **change})


def test_a_ghn1_without_its_arguments_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "ghn1.pt"
    joblib.dump(original("ghn1-tiny"), source)
    with pytest.raises(CheckpointError, match=r"GHN-1 .* needs one"):
        convert_checkpoint(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = convert_checkpoint(source, tmp_path / "out", config=CONFIGS["ghn1-tiny"]["config"])
    assert GHN.from_pretrained(folder).config == GHNConfig.ghn1(hid=16, max_shape=(32, 32, 11, 11))


@pytest.mark.parametrize("name", ["ghn3-tiny.joblib.pt", "ghn2-tiny.joblib.pt", "ghn1-tiny.torch.pt"])
def test_a_converted_folder_equals_the_file(tmp_path: Path, name: str) -> None:
    folder = convert_checkpoint(CHECKPOINTS / name, tmp_path / "ghn")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    direct, converted = GHN.from_pretrained(CHECKPOINTS / name), GHN.from_pretrained(folder)
    assert converted.config == direct.config
    expected = direct.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in converted.state_dict().items())
