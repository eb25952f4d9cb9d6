"""Hostile headers of safetensors files: one CheckpointError each, never a GHN with other tensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ghn_init import GHN, CheckpointError, GHNConfig

Header = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = GHNConfig(hid=8, layers=1, heads=2, num_classes=2, max_shape=(2, 2, 1, 1))
    return GHN(config).save_pretrained(tmp_path_factory.mktemp("sound"))


def edited(change: Callable[[Header, str, str], Any]) -> Callable[[bytes], bytes]:
    """The file with its header changed; ``change`` gets the header and the names of two tensors."""

    def edit(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        first, second = [name for name in header if name != "__metadata__"][:2]
        changed = change(header, first, second)
        text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return edit


def config_field(header: Header, **fields: Any) -> None:
    config = json.loads(header["__metadata__"]["config"])
    header["__metadata__"]["config"] = json.dumps({**config, **fields})


SIZES = {"F4": 0.5, "U64": 8, "C64": 8}


def retyped(data: bytes, kind: str) -> bytes:
    """A sound file whose tensors are all of another type, filled with zeros."""
    size = struct.unpack("<Q", data[:8])[0]
    header, end = json.loads(data[8 : 8 + size]), 0
    for name, entry in header.items():
        if name != "__metadata__":
            length = int(math.prod(entry["shape"]) * SIZES.get(kind, 1))
            entry.update(dtype=kind, data_offsets=[end, end + length])
            end += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "overlapping tensors": edited(lambda h, a, b: h[b].update(data_offsets=h[a]["data_offsets"])),
    "beyond the file": edited(lambda h, a, b: h[a].update(data_offsets=[0, 1 << 40])),
    "negative offset": edited(lambda h, a, b: h[a].update(data_offsets=[-8, 8])),
    "reversed offsets": edited(lambda h, a, b: h[a].update(data_offsets=h[a]["data_offsets"][::-1])),
    "huge shape": edited(lambda h, a, b: h[a].update(shape=[1 << 40, 1 << 40])),
    "overflowing shape": edited(lambda h, a, b: h[a].update(shape=[1 << 63, 2])),
    "unknown type": edited(lambda h, a, b: h[a].update(dtype="F8_OTHER")),
    "wider type": edited(lambda h, a, b: h[a].update(dtype="F64")),
    "hole": edited(lambda h, a, b: h[a].update(dtype="F16")),
    "whole numbers": edited(lambda h, a, b: h[a].update(dtype="I32")),
    **{
        f"type {kind}": (lambda kind: lambda data: retyped(data, kind))(kind)
        for kind in ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I8", "BOOL", "U64", "C64")
    },
    "extra tensor": edited(
        lambda h, a, b: h.update(x={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    ),
    "path as a name": edited(lambda h, a, b: h.update({"../../etc/passwd": h.pop(a)})),
    "same name twice": edited(
        lambda h, a, b: json.dumps(h)[:-1].encode() + f', "{a}": {json.dumps(h[b])}}}'.encode()
    ),
    "no metadata dictionary": edited(lambda h, a, b: h.update(__metadata__=[1])),
    "nested metadata": edited(lambda h, a, b: h.update(__metadata__={"config": {"a": 1}})),
    "no JSON in metadata": edited(lambda h, a, b: h["__metadata__"].update(config="x" * (1 << 20))),
    "long metadata": edited(
        lambda h, a, b: h["__metadata__"].update(config='{"a": "' + "x" * (1 << 25) + '"}')
    ),
    "deep header": edited(lambda h, a, b: b'{"a":' * 50_000),
    "empty header": edited(lambda h, a, b: b"{}"),
    "no header": lambda data: b"",
    "trailing bytes": lambda data: data + b"x" * 8,
    "other configuration": edited(lambda h, a, b: config_field(h, hid=16)),
    "other vocabulary": edited(lambda h, a, b: config_field(h, primitives=["conv"])),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_is_refused(sound: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[kind]((sound / "model.safetensors").read_bytes()))
    (tmp_path / "config.json").write_bytes((sound / "config.json").read_bytes())
    with pytest.raises(CheckpointError) as caught:
        GHN.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_unchanged_file_is_read(sound: Path, tmp_path: Path) -> None:
    data = edited(lambda h, a, b: None)((sound / "model.safetensors").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(data)
    (tmp_path / "config.json").write_bytes((sound / "config.json").read_bytes())
    assert GHN.from_pretrained(tmp_path).config.hid == 8
