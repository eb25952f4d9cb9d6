"""Saving and loading folders and files: bit-equal round trips, and one clear error for everything else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import golden_arch_graph
from safetensors.torch import load_file, save_file

from ghn_init.errors import CheckpointError, ConfigError, GHNInitError
from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.model import GHN
from ghn_init.hub.card import model_card

CONFIGS = {
    "ghn3": GHNConfig(hid=16, layers=2, heads=4, num_classes=10, max_shape=(8, 8, 5, 5)),
    "ghn3 plain": GHNConfig(
        hid=16, layers=1, heads=2, num_classes=10, max_shape=(8, 16, 3, 3), layernorm=False, weight_norm=False
    ),
    "ghn2": GHNConfig.ghn2(hid=16, num_classes=10, max_shape=(8, 8, 5, 5)),
    "ghn1": GHNConfig.ghn1(hid=16, num_classes=10, max_shape=(8, 8, 5, 5)),
}


def small(name: str = "ghn3") -> GHN:
    torch.manual_seed(0)
    return GHN(CONFIGS[name])


def equal(first: GHN, second: GHN) -> bool:
    other = second.state_dict()
    return first.config == second.config and all(
        torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small().save_pretrained(tmp_path / "ghn")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_round_trip_is_bit_equal_and_so_are_predictions(tmp_path: Path, name: str) -> None:
    ghn = small(name)
    path = ghn.save_pretrained(tmp_path / "ghn")
    loaded = GHN.from_pretrained(path)
    assert equal(ghn, loaded)
    graph = golden_arch_graph("resnet18")
    expected, got = ghn.eval().predict(graph), loaded.predict(graph)
    assert list(expected) == list(got)
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    again = GHN.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        path / "model.safetensors"
    ).read_bytes()
    assert equal(again, ghn)


def test_a_loaded_ghn_is_ready_to_use_and_to_train(folder: Path) -> None:
    before = torch.random.get_rng_state()
    ghn = GHN.from_pretrained(str(folder))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not ghn.training
    assert (ghn.source, ghn.commit) == (str(folder), None)
    assert all(parameter.requires_grad for parameter in ghn.parameters())
    values = ghn(golden_arch_graph("resnet18"), head="keep").values()
    sum(value.sum() for value in values).backward()
    assert ghn.embedding.primitive.weight.grad is not None


def test_the_bundled_ghn_is_loaded_by_its_name() -> None:
    ghn = GHN.from_pretrained("bundled", dtype=torch.float64)
    assert ghn.source == "bundled"
    assert ghn.config.num_classes == 10
    assert {parameter.dtype for parameter in ghn.parameters()} == {torch.float64}


def test_only_the_three_files_are_written(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    config = json.loads((folder / "config.json").read_text())
    assert config["ghn_init_format"] == 1
    assert len(config["primitives"]) == 15
    assert (folder / "config.json").stat().st_mode == (folder / "model.safetensors").stat().st_mode


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_can_be_chosen_and_is_kept_by_a_save(
    folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    ghn = GHN.from_pretrained(folder, dtype=dtype)
    assert {parameter.dtype for parameter in ghn.parameters()} == {dtype}
    again = GHN.from_pretrained(ghn.save_pretrained(tmp_path / "typed"))
    assert equal(again, ghn)
    assert {parameter.dtype for parameter in again.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, "float16"])
def test_a_type_that_no_ghn_computes_in_is_refused(folder: Path, dtype: Any) -> None:
    with pytest.raises(ConfigError, match=r"torch\.bfloat16"):
        GHN.from_pretrained(folder, dtype=dtype)


def test_a_quantised_ghn_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="float8_e4m3fn"):
        small().to(torch.float8_e4m3fn).save_pretrained(tmp_path / "small")


def test_the_users_default_type_and_device_do_not_matter(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            ghn = GHN.from_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert equal(ghn, small())
    assert {(parameter.dtype, parameter.device.type) for parameter in ghn.parameters()} == {
        (torch.float32, "cpu")
    }


def test_the_weights_file_alone_is_enough(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    (folder / "model.safetensors").rename(alone)
    assert equal(GHN.from_pretrained(alone), small())
    assert equal(GHN.from_pretrained(tmp_path, filename="alone.safetensors"), small())


def test_a_weights_file_without_header_takes_the_configuration_beside_it(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path)
    assert equal(GHN.from_pretrained(path), small())
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="holds no GHN configuration"):
        GHN.from_pretrained(path)


def test_a_subfolder_is_found(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path / "models" / "tiny")
    assert equal(GHN.from_pretrained(tmp_path, subfolder="models/tiny"), small())
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        GHN.from_pretrained(tmp_path, subfolder="models")


def test_saving_again_keeps_the_users_card_and_the_loaded_ghn(folder: Path) -> None:
    loaded = GHN.from_pretrained(folder)
    (folder / "README.md").write_text("mine")
    small("ghn2").save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert equal(GHN.from_pretrained(folder), small("ghn2"))
    assert equal(loaded, small())
    loaded.save_pretrained(folder, card="new")
    assert (folder / "README.md").read_text() == "new"


def test_what_a_card_says_of_the_weights_stays_with_them(tmp_path: Path) -> None:
    text = model_card(
        small().config.to_dict(),
        1,
        "old",
        licence="mit",
        sections={"Training": "On kites.\n\n```\n## no\n```"},
    )
    old = small().save_pretrained(tmp_path / "old", card=text)
    loaded = GHN.from_pretrained(old)
    moved = (loaded.save_pretrained(tmp_path / "moved") / "README.md").read_text()
    assert "license: mit" in moved
    assert "## Training\n\nOn kites.\n\n```\n## no\n```" in moved
    assert moved.count("## Use") == moved.count("## References") == 1
    assert str(tmp_path / "moved") in moved
    assert "old" not in moved.replace(str(tmp_path), "")
    with torch.no_grad():
        loaded.embedding.primitive.weight.mul_(2)
    trained = (loaded.save_pretrained(tmp_path / "trained") / "README.md").read_text()
    assert "kites" not in trained
    assert "license" not in trained


def test_a_failed_save_leaves_the_old_files(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = small("ghn2")
    broken.vectors.hidden.bias.data[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"vectors\.hidden\.bias has 1 NaN"):
        broken.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(CheckpointError, match="needs a folder"):
        small().save_pretrained(folder / "config.json")
    with pytest.raises(CheckpointError, match="could not save"):
        small().save_pretrained(folder / "config.json" / "inside")
    with pytest.raises(CheckpointError, match="on the meta device"):
        small().to("meta").save_pretrained(folder)


def test_a_save_cut_short_is_noticed(folder: Path, tmp_path: Path) -> None:
    """As after a crash between the two renames: the configuration is new, the weights are old."""
    other = small("ghn1").save_pretrained(tmp_path / "other")
    (other / "config.json").replace(folder / "config.json")
    with pytest.raises(CheckpointError, match="disagree"):
        GHN.from_pretrained(folder)


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Apply ``change`` to the configuration, in both places that hold it."""

    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        path = folder / "model.safetensors"
        save_file(load_file(path), path, metadata={"config": json.dumps(config)})

    return edit


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (edited(lambda c: c["primitives"].reverse()), ConfigError, "trained on the operation types"),
        (edited(lambda c: c["primitives"].append("rope")), ConfigError, "trained on the operation types"),
        (edited(lambda c: c.pop("primitives")), CheckpointError, "lacks primitives"),
        (edited(lambda c: c.pop("kernel_crop")), CheckpointError, "lacks kernel_crop"),
        (edited(lambda c: c.update(surprise=1)), ConfigError, "unknown keys"),
        (edited(lambda c: c.update(hid="16")), ConfigError, "hid must be a positive integer"),
        (
            edited(lambda c: c.update(layers=10**9)),
            ConfigError,
            "layers must be a positive integer of at most",
        ),
        (
            edited(lambda c: c.update(max_shape=[8, 8, 10**9, 10**9])),
            ConfigError,
            "max_shape must be at most",
        ),
        (edited(lambda c: c.update(encoder="nothing")), ConfigError, "nothing"),
        (edited(lambda c: c.update(hid=32)), CheckpointError, "wrong shapes: .* in the file and"),
        (edited(lambda c: c.update(layers=1)), CheckpointError, r"unknown tensors: encoder\.layers\.1"),
        (edited(lambda c: c.update(layers=3)), CheckpointError, r"missing tensors: encoder\.layers\.2"),
        (edited(lambda c: c.update(ghn_init_format=2)), CheckpointError, "upgrade ghn_init"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[Path], None], kind: type[GHNInitError], said: str
) -> None:
    change(folder)
    with pytest.raises(kind, match=said):
        GHN.from_pretrained(folder)


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Replace a file by a changed copy."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def with_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Write the weights again after ``change``."""

    def edit(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return edit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rewritten("config.json", lambda data: b"{"), r"config\.json is not valid JSON"),
        (rewritten("config.json", lambda data: b"[1]"), "holds a JSON list"),
        (rewritten("config.json", lambda data: b"[" * 100_000), "not valid JSON"),
        (rewritten("config.json", lambda data: b"\xff\xfe"), "not valid JSON"),
        (rewritten("config.json", lambda data: data + b" " * (2 << 20)), "larger than"),
        (rewritten("model.safetensors", lambda data: data[:-1]), "truncated or damaged"),
        (rewritten("model.safetensors", lambda data: data[:100]), "truncated or damaged"),
        (rewritten("model.safetensors", lambda data: b""), "truncated or damaged"),
        (
            rewritten("model.safetensors", lambda data: struct.pack("<Q", 1 << 60) + data[8:]),
            "truncated or damaged",
        ),
        (rewritten("model.safetensors", lambda data: b"\x80\x04." + data), "truncated or damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (with_tensors(lambda s: s["norm.bias"].fill_(float("inf"))), r"norm\.bias has 16 NaN or infinite"),
        (with_tensors(lambda s: s.pop("norm.bias")), r"missing tensors: norm\.bias"),
        (with_tensors(lambda s: s.update(extra=torch.ones(1))), "unknown tensors: extra"),
        (
            with_tensors(lambda s: s.update({"norm.bias": torch.ones(3)})),
            r"norm\.bias is \(3,\) in the file and \(16,\)",
        ),
    ],
)
def test_damaged_folders_are_refused(folder: Path, change: Callable[[Path], Any], said: str) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=said):
        GHN.from_pretrained(folder)


@pytest.mark.parametrize(
    "name", ["./nothing", "/no/such/place", "~/no-such-ghn", "a/b/c/d", "/" + "x" * 5000]
)
def test_a_path_that_does_not_exist_is_never_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        GHN.from_pretrained(name)


def test_filename_belongs_to_folders(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="belong to folders"):
        GHN.from_pretrained(folder / "model.safetensors", filename="x.pt")
    with pytest.raises(CheckpointError, match=r"has no file x\.pt"):
        GHN.from_pretrained(folder, filename="x.pt")


def mapped_from(tensor: torch.Tensor) -> str:
    """The file that a tensor's memory is a map of; empty for ordinary memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = f"{line} ".split(maxsplit=5) if line.count(" ") > 5 else (line.split()[0], "")
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= tensor.data_ptr() < last:
            return path.strip()
    return ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of a process's maps")
def test_what_is_saved_is_loaded_as_a_map_without_a_copy(tmp_path: Path) -> None:
    ghn = GHN(GHNConfig.ghn2(num_classes=10))  # sizes that are and are not multiples of the alignment
    file = ghn.save_pretrained(tmp_path / "ghn") / "model.safetensors"
    state = GHN.from_pretrained(tmp_path / "ghn").state_dict()
    assert all(tensor.data_ptr() % 64 == 0 for tensor in state.values())
    mapped = {name for name, tensor in state.items() if mapped_from(tensor) == str(file)}
    assert mapped >= {name for name, tensor in state.items() if tensor.nbytes % 64 == 0}
    assert sum(state[name].nbytes for name in mapped) > 0.99 * sum(each.nbytes for each in state.values())


def test_changing_a_loaded_ghn_changes_no_file(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    loaded = GHN.from_pretrained(folder)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before
    assert equal(GHN.from_pretrained(folder), small())


def test_other_libraries_read_the_file(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in small().state_dict().items())
