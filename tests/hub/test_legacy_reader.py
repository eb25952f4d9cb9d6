"""Original checkpoints are read to the values that joblib and torch read, in every form they are written."""

from __future__ import annotations

import argparse
import collections
import io
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from parity import PARITY
from safetensors.torch import load_file
from torch import Tensor, nn

from ghn_init.errors import CheckpointError
from ghn_init.hub.legacy import read_legacy

CHECKPOINTS = PARITY / "checkpoints"


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(got) == list(expected) and all(
        got[name].dtype == tensor.dtype and torch.equal(got[name], tensor)
        for name, tensor in expected.items()
    )


def tensors() -> dict[str, Tensor]:
    """Every numeric type, views, transposes, shared storage, empty and 0-dimensional tensors, a parameter."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    return {
        "plain": base.clone(),
        "transposed": base.t(),
        "column": base[:, 3],
        "tail": base[4:],
        "again": base,
        "zero_dim": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "parameter": nn.Parameter(torch.randn(3, generator=generator)),
        **{
            str(dtype): (torch.randn(2, 3, generator=generator) * 50).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
        },
        "flags": torch.tensor([True, False, True]),
    }


@pytest.mark.parametrize(
    "name",
    ["ghn3-tiny.joblib.pt", "ghn2-tiny.joblib.pt", "ghn1-tiny.torch.pt"],
    ids=lambda name: name.split(".")[0],
)
def test_the_published_forms_hold_the_golden_values(name: str) -> None:
    got = read_legacy(CHECKPOINTS / name).state_dict
    expected = load_file(CHECKPOINTS / f"{name.split('.')[0]}.safetensors")
    assert set(got) == set(expected)
    assert all(torch.equal(got[key], expected[key]) for key in expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("compressor", [None, "zlib", "gzip", "bz2", "lzma", "xz", "lz4"])
def test_joblib_with_every_compressor_and_protocol(
    tmp_path: Path, compressor: str | None, protocol: int
) -> None:
    if compressor == "lz4":
        pytest.importorskip("lz4")
    path = tmp_path / "ghn.pt"
    joblib.dump(tensors(), path, compress=(compressor, 3) if compressor else 0, protocol=protocol)
    assert same(read_legacy(path).state_dict, joblib.load(path))


@pytest.mark.parametrize("compress", [0, 3])
def test_arrays_inside_joblib_files(tmp_path: Path, compress: int) -> None:
    arrays = {
        f"{dtype}{order}": np.asarray(np.arange(24).reshape(2, 3, 4) * 1.5, dtype=dtype, order=order)
        for dtype in ("f2", "f4", "f8", "i8", "i4", "u1")
        for order in ("C", "F")
    }
    arrays |= {
        "none": np.zeros((0, 5), "f4"),
        "zero_dim": np.array(3.0, "f4"),
        "flag": np.array([True, False]),
    }
    path = tmp_path / "arrays.joblib"
    joblib.dump(arrays, path, compress=compress)
    got = read_legacy(path).state_dict
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name].numpy(), array)
        assert got[name].numpy().dtype == array.dtype


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_both_torch_formats(tmp_path: Path, zipped: bool, wrapped: bool) -> None:
    state = collections.OrderedDict(tensors())
    config = {"hid": 32, "max_shape": (64, 64, 11, 11), "ve": True, "lr": 1e-3, "note": None, "big": 1 << 70}
    path = tmp_path / "ghn.pt"
    torch.save(
        {"state_dict": state, "config": config} if wrapped else state,
        path,
        _use_new_zipfile_serialization=zipped,
    )
    got = read_legacy(path)
    assert same(got.state_dict, state)
    assert got.config == ({**config, "max_shape": [64, 64, 11, 11]} if wrapped else None)


def test_a_training_checkpoint_with_optimizer_and_arguments(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    path = tmp_path / "train.pt"
    content = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, name="ghn2", split=["a", "b"]),
        "config": {"hid": np.int64(32), "is_ghn2": np.bool_(True), "scale": np.float32(0.5)},
    }
    torch.save(content, path)
    got = read_legacy(path)
    assert same(got.state_dict, dict(model.state_dict()))
    assert got.config == {"hid": 32, "is_ghn2": True, "scale": 0.5}


def test_reading_ignores_the_default_device_and_random_state(tmp_path: Path) -> None:
    path = tmp_path / "ghn.pt"
    torch.save(tensors(), path)
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        got = read_legacy(path).state_dict
    assert same(got, torch.load(path))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2, 3], "holds a list"),
        ({}, "no state dict"),
        ({"a": "text"}, "entry 'a' is a str"),
        ({"state_dict": {"a": torch.ones(1)}, "config": [1]}, "configuration is a list"),
        ({"state_dict": {"a": torch.ones(1)}, "config": {"t": torch.ones(1)}}, "not plain values"),
        ({"state_dict": {"a": torch.ones(1).to_sparse()}}, "_rebuild_sparse_tensor"),
        ({"a": nn.Linear(2, 2)}, "refused torch.nn.modules.linear.Linear"),
        ({"a": {"b": torch.ones(1)}}, "entry 'a' is a dict"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_other_content_is_refused_with_its_name(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said):
        read_legacy(path)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        read_legacy(path)
    for data in (
        b"",
        b"\x80",
        b"hello, world",
        b"<html>not found</html>",
        b"PK\x03\x04 no zip",
        b"x\xda no zlib",
    ):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"x\.pt"):
            read_legacy(path)
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_legacy(path)


def whole_files() -> dict[str, bytes]:
    """One small checkpoint in each form."""
    state = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5)}
    files = {}
    for name, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
        buffer = io.BytesIO()
        torch.save(state, buffer, **options)
        files[name] = buffer.getvalue()
    for name, compress in (("joblib", 0), ("zlib", ("zlib", 3)), ("xz", ("xz", 3))):
        buffer = io.BytesIO()
        joblib.dump({**state, "c": np.ones(3)}, buffer, compress=compress)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.parametrize("form", ["zip", "old", "joblib", "zlib", "xz"])
def test_every_truncation_is_an_error(tmp_path: Path, form: str) -> None:
    data = whole_files()[form]
    path = tmp_path / "cut.pt"
    path.write_bytes(data)
    assert len(read_legacy(path).state_dict) >= 2
    for length in [*range(0, len(data), max(1, len(data) // 150)), len(data) - 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_legacy(path)


@pytest.mark.parametrize("form", ["zip", "old", "joblib", "zlib", "xz"])
def test_damaged_bytes_give_an_error_or_other_numbers_but_never_another_exception(
    tmp_path: Path, form: str
) -> None:
    data = whole_files()[form]
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pt"
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_legacy(path)
        except CheckpointError:
            refused += 1
    assert refused > 30
