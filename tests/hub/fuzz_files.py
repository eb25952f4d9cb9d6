"""Coverage-guided fuzzing of everything that reads a GHN's files.

    pip install atheris
    PYTHONPATH=. python tests/hub/fuzz_files.py --seconds 1800

Whatever bytes a file holds, reading it gives a checkpoint or a :class:`ghn_init.GHNInitError`: no other
exception, no code, no file opened but the input, no process, no connection, no import (an audit hook looks),
and memory within bounds. ``--keep`` adds the small inputs that reached new code to
``tests/data/file_corpus.txt``, which the tests replay without atheris.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parents[1] / "data" / "file_corpus.txt"
"""Inputs, one a line, in base64."""
LARGEST_KEPT = 4096
"""Bytes of an input that is worth a place in the repository."""

# An input's first byte says what kind of file the rest becomes: mutations get past checksums and lengths.


def _zipped(payload: bytes) -> bytes:
    """A torch archive whose object is pickled by ``payload``, with one storage of 64 bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", bytes(range(64)))
    return buffer.getvalue()


def _old_torch(payload: bytes) -> bytes:
    """An old torch file whose object is pickled by ``payload``, with one storage of 16 numbers."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    system = b"\x80\x02}q\x00(X\r\x00\x00\x00little_endianq\x01\x88u."
    storages = b"\x80\x02]q\x00X\x01\x00\x00\x000q\x01a." + struct.pack("<Q", 16) + bytes(64)
    return magic + b"\x80\x02M\xe9\x03." + system + payload + storages


def _embedded(payload: bytes) -> bytes:
    """A joblib file with a torch storage whose bytes are ``payload``."""
    return (
        b"\x80\x04}\x8c\x01actorch.storage\n_load_from_bytes\nB"
        + struct.pack("<I", len(payload))
        + payload
        + b"\x85Rs."
    )


def _safetensors(payload: bytes) -> bytes:
    """A safetensors file with ``payload`` as its header, and 256 bytes of data."""
    return struct.pack("<Q", len(payload)) + payload + bytes(256)


_LEGACY: dict[int, Callable[[bytes], bytes]] = {
    0: lambda payload: payload,
    1: _zipped,
    2: zlib.compress,
    3: _old_torch,
    4: _embedded,
    5: lambda payload: _embedded(_old_torch(payload)),
}
_WEIGHTS: dict[int, Callable[[bytes], bytes]] = {6: lambda payload: payload, 7: _safetensors}
_CONFIG = 8
KINDS = 9


def read_input(data: bytes, folder: Path) -> str:
    """Read what ``data`` stands for; ``"read"`` or ``"refused"``, and any other exception goes on up."""
    from ghn_init import GHN, GHNInitError
    from ghn_init.hub.legacy import read_legacy

    kind, payload = (data[0] % KINDS if data else 0), data[1:]
    try:
        if kind in _LEGACY:
            path = folder / "input.pt"
            path.write_bytes(_LEGACY[kind](payload))
            with watched(path):
                read_legacy(path)
        else:
            name = "config.json" if kind == _CONFIG else "model.safetensors"
            content = payload if kind == _CONFIG else _WEIGHTS[kind](payload)
            (folder / "ghn" / name).write_bytes(content)
            try:
                with watched(folder / "ghn"):
                    GHN.from_pretrained(folder / "ghn")
            finally:
                shutil.copy(folder / "sound" / name, folder / "ghn" / name)
    except GHNInitError as error:
        if not str(error):
            raise AssertionError("an error without a message") from error
        return "refused"
    return "read"


@contextmanager
def prepared() -> Iterator[Path]:
    """A scratch folder with a sound GHN, after everything that reading needs has been imported."""
    import torch

    from ghn_init import GHN, GHNConfig

    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as scratch:
        folder = Path(scratch)
        config = GHNConfig(hid=8, layers=1, heads=2, num_classes=2, max_shape=(2, 2, 1, 1))
        torch.manual_seed(0)
        GHN(config).save_pretrained(folder / "sound")
        shutil.copytree(folder / "sound", folder / "ghn")
        GHN.from_pretrained(folder / "sound")
        sys.addaudithook(_audit)
        for data in [*seeds(), *_readable()]:  # what is imported late is imported now
            read_input(data, folder)
        _watch["on"] = True
        yield folder
        _watch["on"] = False


# What Python itself tells of: see "Audit events" in the Python documentation.
_HARMLESS = frozenset(
    {
        *("object.__getattr__", "object.__setattr__", "sys._getframe", "array.__new__", "builtins.id"),
        *("os.listdir", "os.scandir", "shutil.copyfile", "shutil.copymode", "shutil.copystat", "os.chmod"),
        *("gc.get_objects", "glob.glob", "mmap.__new__", "sys.unraisablehook", "cpython.run_stdin"),
    }
)
_watch: dict[str, Any] = {"on": False, "path": None, "seen": []}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    path = _watch["path"]
    if path is None or not _watch["on"] or event in _HARMLESS:
        return
    if event == "open" and str(arguments[0]).startswith(path) and "w" not in str(arguments[1] or "r"):
        return
    _watch["seen"].append((event, str(arguments)[:200]))


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Fail on any audit event but reading ``path``."""
    _watch["seen"], _watch["path"] = [], str(path)
    try:
        yield
    finally:
        _watch["path"] = None
        if _watch["seen"]:
            raise AssertionError(f"a file made the reader do {_watch['seen'][:3]}")


def _readable() -> Iterator[bytes]:
    """One small sound file of every kind."""
    import joblib
    import torch

    base = torch.arange(16.0)
    value = {"state_dict": {"w": base, "b": base[4:].view(3, 4).t()}, "config": {"hid": 8}}
    buffer = io.BytesIO()
    torch.save(value, buffer)
    pickled = zipfile.ZipFile(buffer)
    program = pickled.read(next(name for name in pickled.namelist() if name.endswith("data.pkl")))
    yield b"\x01" + program
    yield b"\x03" + program
    yield b"\x00" + buffer.getvalue()
    for compress in (0, ("zlib", 1), ("gzip", 1), ("bz2", 1), ("lzma", 1), ("xz", 1)):
        buffer = io.BytesIO()
        joblib.dump({"w": torch.ones(3).numpy(), "t": torch.ones(2)}, buffer, compress=compress)
        yield b"\x00" + buffer.getvalue()
        if compress == 0:
            yield b"\x02" + buffer.getvalue()
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    yield b"\x00" + buffer.getvalue()
    buffer = io.BytesIO()
    torch.save(base.untyped_storage(), buffer, _use_new_zipfile_serialization=False)
    yield b"\x04" + buffer.getvalue()


def seeds() -> Iterator[bytes]:
    """Inputs to start from: the corpus, a header, a configuration, and a program for every instruction."""
    yield from corpus()
    header = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {"config": "{}"}}
    yield b"\x07" + json.dumps(header).encode()
    yield b"\x08" + json.dumps({"hid": 8, "layers": 1, "max_shape": [2, 2, 1, 1]}).encode()
    for program in opcode_programs().values():
        yield from (bytes([kind]) + program for kind in range(5))


def opcode_programs() -> dict[str, bytes]:
    """For every instruction that pickle has, a program that executes it with sound arguments."""
    import pickletools

    texts = {"int": b"7\n", "bool": b"01\n", "long": b"7L\n", "float": b"1.5\n", "module": b"os\nsystem\n"}
    push = {
        pickletools.markobject: b"(",
        pickletools.pyint: b"K\x01",
        pickletools.pylist: b"]",
        pickletools.pydict: b"}",
        pickletools.pytuple: b"K\x01\x85",
        pickletools.pyset: b"\x8f",
        pickletools.pyunicode: b"\x8c\x06system",
        pickletools.stackslice: b"",
        pickletools.anyobject: b"cos\nsystem\n",
    }
    programs = {}
    for opcode in pickletools.opcodes:
        argument = b""
        if opcode.arg is not None:
            size = opcode.arg.n
            if size >= 0:
                argument = (1 if size < 8 else 0).to_bytes(size, "little")
            elif size == pickletools.UP_TO_NEWLINE:
                argument = texts["module"] if "pair" in opcode.arg.name else texts["int"]
            else:
                width = {-2: 1, -3: 4, -4: 4, -5: 8}[size]
                argument = (1).to_bytes(width, "little") + b"\x01"
        before = b"".join(push.get(item, b"N") for item in opcode.stack_before)
        programs[opcode.name] = b"\x80\x04" + before + opcode.code.encode("latin1") + argument + b"."
    return programs


def corpus() -> list[bytes]:
    """What earlier runs kept."""
    return [base64.b64decode(line) for line in CORPUS.read_text().split()] if CORPUS.exists() else []


def main() -> None:
    """Fuzz for a while, or keep the inputs that reached new code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=1800, help="how long (default 1800)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--work", type=Path, default=Path("runs/fuzz_files"), help="inputs found on the way")
    parser.add_argument("--keep", action="store_true", help="fuzz no more: add what was found to the corpus")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.keep:
        keep(options.work)
        return
    import atheris

    with atheris.instrument_imports(include=["ghn_init.hub", "ghn_init.ghn.config"]):
        import ghn_init.hub.legacy
        import ghn_init.hub.pretrained  # noqa: F401
    with prepared() as folder:
        for index, data in enumerate([*seeds(), *_readable()]):
            (options.work / f"seed-{index}").write_bytes(data)
        arguments = [
            *(sys.argv[0], str(options.work), f"-max_total_time={options.seconds}", f"-seed={options.seed}"),
            *("-max_len=8192", "-rss_limit_mb=3000", "-timeout=60", "-print_final_stats=1"),
            f"-artifact_prefix={options.work.parent}/found-",
        ]
        atheris.Setup(arguments, lambda data: read_input(data, folder) and None)
        atheris.Fuzz()


def keep(folder: Path) -> None:
    """Add small inputs to the corpus."""
    found = {path.read_bytes() for path in folder.iterdir()} | set(corpus())
    kept = sorted((data for data in found if 0 < len(data) <= LARGEST_KEPT), key=lambda d: (len(d), d))
    CORPUS.write_text("".join(base64.b64encode(data).decode() + "\n" for data in kept))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
