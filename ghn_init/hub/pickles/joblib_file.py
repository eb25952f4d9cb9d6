"""joblib's file format: one pickle, arrays in between as raw bytes, the whole optionally compressed.

torch tensors in such a pickle are stored as complete files of the old torch format, which torch would read
with its unrestricted loader; here they go through the restricted one.
"""

from __future__ import annotations

import io
from typing import Any

from ghn_init.hub.pickles.machine import Blob, PickleMachine, Token
from ghn_init.hub.pickles.stream import ByteStream
from ghn_init.hub.pickles.tensors import PLAIN_TOKENS, NumpyArray, Storage, table
from ghn_init.hub.pickles.torch_file import LEGACY_MAGIC, ZIP_MAGIC, read_legacy_body, read_zip


def joblib_tokens(where: str) -> dict[str, Token]:
    """Names that a joblib file may hold."""

    def load_from_bytes(blob: Any) -> Storage:
        if not isinstance(blob, Blob):
            raise ValueError("a torch storage that is not bytes")
        if blob.decoded is None:
            blob.decoded = _read_storage(blob, f"{where} (embedded storage)")
            blob.data = None  # frees the bytes, which the machine's memory would keep alive
        return blob.decoded

    return PLAIN_TOKENS | table(
        [
            Token("torch.storage._load_from_bytes", load_from_bytes),
            Token("joblib.numpy_pickle.NumpyArrayWrapper", NumpyArray),
            Token("numpy.ndarray"),
        ]
    )


class _Memory:
    """A file over bytes in memory that copies only what is read."""

    def __init__(self, data: bytearray) -> None:
        self._data = memoryview(data)
        self._position = 0

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""
        chunk = bytes(self._data[self._position : self._position + count])
        self._position += len(chunk)
        return chunk


def _read_storage(blob: Blob, where: str) -> Storage:
    if blob.data is None:
        raise ValueError("bytes that were used already")
    data = blob.data
    if data.startswith(ZIP_MAGIC):
        value = read_zip(io.BytesIO(data), len(data), where)
    else:
        stream = ByteStream(_Memory(data), where, len(data))
        if PickleMachine(stream, {}).run() != LEGACY_MAGIC:
            raise ValueError("an embedded storage that is no torch file")
        value = read_legacy_body(stream)
    if not isinstance(value, Storage):
        raise ValueError("an embedded torch file that is no storage")
    value.tensor()
    return value
