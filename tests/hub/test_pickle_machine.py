"""The pickle machine on programs nobody wrote: they end in plain content or in a CheckpointError."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from ghn_init.errors import CheckpointError
from ghn_init.hub.legacy import read_legacy
from ghn_init.hub.pickles.joblib_file import joblib_tokens

NAMES = [name.rsplit(".", 1) for name in joblib_tokens("")]
TEXTS = (
    b"storage",
    b"0",
    b"<",
    b"f4",
    b"C",
    b"shape",
    b"dtype",
    b"order",
    b"state_dict",
    b"config",
    b"latin1",
)
PLAIN = b"N\x88\x89()]}0" + b"tlaesubRQ.\x81\x85\x86\x87\x93\x94"


def instruction(rng: random.Random) -> bytes:
    """One instruction with a well-formed argument."""
    kind = rng.randrange(9)
    if kind < 4:
        return bytes([rng.choice(PLAIN)])
    if kind == 4:
        return rng.choice([b"K", b"q", b"h"]) + bytes([rng.randrange(8)])
    if kind == 5:
        return b"J" + struct.pack("<i", rng.choice([0, 1, -1, 2**31 - 1]))
    if kind == 6:
        text = rng.choice(TEXTS)
        return rng.choice([b"\x8c", b"C"]) + bytes([len(text)]) + text
    module, name = rng.choice(NAMES)
    token = f"c{module}\n{name}\n".encode()
    arguments = b"".join(
        rng.choice([b"K\x01", b"N", b")", b"]", b"\x8c\x02f4", b"h\x00"]) for _ in range(rng.randrange(6))
    )
    return token if kind == 7 else token + b"(" + arguments + b"tR"


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "program.pt"
    refused = 0
    for _ in range(100):
        path.write_bytes(b"\x80\x04" + b"".join(instruction(rng) for _ in range(rng.randrange(1, 60))) + b".")
        try:
            read_legacy(path)
        except CheckpointError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"0.", "pop from empty list"),
        (b"(.", "a mark is no value"),
        (b"t.", "no mark on the stack"),
        (b"h\x05.", "KeyError"),
        (b"NK\x01K\x02s.", "set an item of a NoneType"),
        (b"NK\x01a.", "append to a NoneType"),
        (b"}NNs.", "a dictionary key of type NoneType"),
        (b"}(K\x01u.", "ValueError"),
        (b"K\x01)R.", "call of int"),
        (b"ctorch\nFloatStorage\n)R.", r"call of torch\.FloatStorage"),
        (b"ccollections\nOrderedDict\nNR.", "arguments are not a tuple"),
        (b"NN\x93.", "name is not text"),
        (b"NQ.", "persistent id outside"),
        (b"NNb.", "state for a NoneType"),
        (b"\x8f.", "0x8f is not one that checkpoints use"),
        (b"V1\n.", "0x56 is not one that checkpoints use"),
        (b"c" + b"a" * 600 + b"\nb\n.", "overlong name"),
        (b"\x8c\x02\xff\xfe.", "invalid text"),
        (b"cnumpy\ndtype\n\x8c\x01O\x85R.", "object arrays would run code"),
        (b"cnumpy\ndtype\n\x8c\x02f4\x85R(K\x03\x8c\x01>tb.", "not little-endian"),
        (b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.", "a shape of type NoneType"),
        (b"ctorch.storage\n_load_from_bytes\nN\x85R.", "not bytes"),
        (b"ctorch.storage\n_load_from_bytes\nC\x03abc\x85R.", "embedded storage"),
        (b"}.trailing", "goes on after its end"),
    ],
)
def test_malformed_programs_are_described(tmp_path: Path, program: bytes, said: str) -> None:
    path = tmp_path / "program.pt"
    path.write_bytes(b"\x80\x04" + program)
    with pytest.raises(CheckpointError, match=said):
        read_legacy(path)
