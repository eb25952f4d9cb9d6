"""Hostile checkpoints: nothing in them runs, memory stays bounded, and the error says what was refused.

Each file that carries code is first given to the ordinary loader, which runs it: the files are really
hostile.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from ghn_init.errors import CheckpointError
from ghn_init.hub.legacy import read_legacy


class Call:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class State(dict):
    """Pickles as an object whose state is set by a call of ``setattr`` and the like."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.inner = Call(function, *arguments)

    def __reduce__(self) -> Any:
        return dict, (), {"x": self.inner}, None, iter([("k", self.inner)])


def joblibbed(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer, **options)
    return buffer.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def text_pickle(sentinel: Path) -> bytes:
    """Protocol 0: instructions INST and plain text."""
    return f"(S'touch {sentinel}'\nios\nsystem\n.".encode()


def object_array(sentinel: Path) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[0] = Call(os.system, f"touch {sentinel}")
    return array


def embedded(sentinel: Path) -> Call:
    """A torch storage inside a joblib file whose bytes are a pickle that calls."""
    inner = saved({"x": Call(os.system, f"touch {sentinel}")}, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, inner)


def rebuilt(sentinel: Path) -> Call:
    """A call hidden in the arguments of an allowed constructor."""
    return Call(
        torch._utils._rebuild_tensor_v2, Call(os.system, f"touch {sentinel}"), 0, (1,), (1,), False, {}
    )


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda s: joblibbed({"a": Call(os.system, f"touch {s}")}),
    "compressed": lambda s: joblibbed({"a": Call(os.system, f"touch {s}")}, compress=("xz", 3)),
    "eval": lambda s: joblibbed(Call(eval, f"open({str(s)!r}, 'w')")),
    "exec": lambda s: joblibbed([Call(exec, f"open({str(s)!r}, 'w')")], protocol=2),
    "open": lambda s: joblibbed({"state_dict": {"w": torch.ones(2), "e": Call(open, str(s), "w")}}),
    "nested": lambda s: joblibbed(
        {"a": Call(dict, Call(zip, Call(list), Call(os.system, f"touch {s}") or ()))}
    ),
    "import": lambda s: joblibbed({"a": Call(builtins.__import__, "os"), "b": Call(os.mkdir, str(s))}),
    "state": lambda s: joblibbed(State(os.system, f"touch {s}")),
    "dictionary key": lambda s: joblibbed({(1, Call(os.system, f"touch {s}")): 1}),
    "object array": lambda s: joblibbed({"a": object_array(s)}),
    "embedded storage": lambda s: joblibbed({"a": embedded(s)}),
    "constructor argument": lambda s: joblibbed({"a": rebuilt(s)}),
    "pickle.loads": lambda s: joblibbed(Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {s}")))),
    "torch zip": lambda s: saved({"state_dict": {}, "config": Call(os.system, f"touch {s}")}),
    "torch old": lambda s: saved(Call(os.system, f"touch {s}"), _use_new_zipfile_serialization=False),
    "protocol 0": text_pickle,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_code_in_a_file_never_runs(tmp_path: Path, kind: str) -> None:
    sentinel = tmp_path / "ran"
    path = tmp_path / "hostile.pt"
    path.write_bytes(HOSTILE[kind](sentinel))
    with pytest.raises(CheckpointError, match=r"nothing (in it )?was executed") as caught:
        read_legacy(path)
    assert not sentinel.exists()
    if kind not in ("protocol 0", "object array", "dictionary key"):
        assert "refused " in str(caught.value)
    run_unsafely(path)
    assert sentinel.exists(), "the file does no harm, so this test shows nothing"


def run_unsafely(path: Path) -> None:
    """What the ordinary loaders do with the file; whatever they raise afterwards does not matter here."""
    loaders: list[Callable[[], Any]] = [
        lambda: torch.load(path, weights_only=False),
        lambda: joblib.load(path),
    ]
    for load in loaders:
        try:
            load()
        except Exception:
            continue


def test_the_refused_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pt"
    path.write_bytes(HOSTILE["os.system"](tmp_path / "ran"))
    with pytest.raises(CheckpointError, match=rf"{path.name}: refused {os.system.__module__}\.system"):
        read_legacy(path)


# Files that carry no code and want to exhaust or confuse the reader.

MIB = 1 << 20


def bomb(content: bytes, times: int) -> bytes:
    """``content`` repeated, deflated."""
    deflate = zlib.compressobj(1)
    return b"".join([deflate.compress(content) for _ in range(times)]) + deflate.flush()


def patched_zip(change: Callable[[str, bytes], tuple[str, bytes] | None], **options: Any) -> bytes:
    """A torch file whose entries went through ``change``."""
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(1000)})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as target:
        for name in source.namelist():
            entry = change(name, source.read(name))
            if entry is not None:
                target.writestr(*entry)
    return buffer.getvalue()


def reshaped(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def wide_tensor(_: Path) -> bytes:
    """A tensor of a million by a million over a storage of one number, through strides of zero."""
    return joblibbed({"a": torch.ones(1).expand(10**6, 10**6)})


EXHAUSTING: dict[str, Callable[[Path], bytes]] = {
    "long bytes": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40),
    "long text": lambda _: b"\x80\x04X" + struct.pack("<I", 1 << 31) + b"a" * 100,
    "zeros": lambda _: bomb(b"B" + struct.pack("<I", 16 * MIB) + bytes(16 * MIB) + b"0", 20),
    "zeros in a text": lambda _: zlib.compress(
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + bytes(64 * MIB), 9
    ),
    "many objects": lambda _: bomb(b"}" * MIB, 64),
    "many marks": lambda _: b"\x80\x04" + b"(" * 1_000_000,
    "deep tuples": lambda _: b"\x80\x04)" + b"\x85" * 250_000 + b".",
    "doubling tuples": lambda _: b"\x80\x04}K\x01" + b"q\x00h\x00\x86" * 500 + b"K\x00s.",
    "own member": lambda _: b"\x80\x04]q\x00h\x00a.",
    "huge shape": lambda _: reshaped(
        joblibbed({"a": np.ones(77, "f4")}), b"\x05shape\x94KM\x85", b"\x05shape\x94J\xff\xff\xff\x7f\x85"
    ),
    "wide tensor": wide_tensor,
    "huge integer": lambda _: b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
    "memo hole": lambda _: b"\x80\x04Nr\xff\xff\xff\x7fj\x00\x00\x00\x00.",
    "zip deflated": lambda _: patched_zip(lambda n, d: (n, d), compression=zipfile.ZIP_DEFLATED),
    "zip short storage": lambda _: patched_zip(lambda n, d: (n, d[:100] if n.endswith("data/0") else d)),
    "zip missing storage": lambda _: patched_zip(lambda n, d: None if n.endswith("data/0") else (n, d)),
    "zip path": lambda _: patched_zip(lambda n, d: (n.replace("data/0", "data/../../0"), d)),
    "zip two pickles": lambda _: patched_zip(lambda n, d: (n.replace("archive/version", "b/data.pkl"), d)),
    "zip without pickle": lambda _: patched_zip(lambda n, d: (n.replace("data.pkl", "other.pkl"), d)),
}


@pytest.mark.parametrize("kind", EXHAUSTING)
def test_exhausting_files_are_refused_within_bounded_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hostile.pt"
    path.write_bytes(EXHAUSTING[kind](tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"hostile\.pt"):
            read_legacy(path)
        assert tracemalloc.get_traced_memory()[1] < 200 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "said"),
    [
        (0, (5,), (1,), "over a storage of 4"),
        (1, (4,), (1,), "over a storage of 4"),
        (0, (2, 2), (3, 2), "over a storage of 4"),
        (-1, (2,), (1,), "without a storage"),
        (0, (2,), (-1,), "not a non-negative integer"),
        (0, (2, 2), (1,), "with strides"),
        (0, (1,) * 9, (1,) * 9, "more than 8 dimensions"),
        (0, (2.0,), (1,), "not a non-negative integer"),
        (0, (0, 1 << 200), (1, 1), "cannot be read"),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(
    tmp_path: Path, offset: int, shape: Any, stride: Any, said: str
) -> None:
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.arange(4.0).untyped_storage(), dtype=torch.float32, _internal=True
    )
    path = tmp_path / "hostile.pt"
    joblib.dump({"a": Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, {})}, path)
    with pytest.raises(CheckpointError, match=said):
        read_legacy(path)
