"""Bounded reading of bytes, plain or compressed."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Any, BinaryIO, Protocol

from ghn_init.errors import CheckpointError

_CHUNK = 1 << 20
_LZMA_MEMORY = 256 << 20
_MAX_LINE = 512

ALLOWANCE = 256 << 20
"""Bytes that any file may expand to."""
EXPANSION = 32
"""Times its own size that a compressed file may expand to, beyond the allowance. Weights compress about 1.1
to 3 times, and runs of zeros more."""


class Readable(Protocol):
    """What a ByteStream reads from."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes; none at the end."""
        ...


class ByteStream:
    """Reads exactly what is asked for, or raises CheckpointError; counts the position for messages.

    Memory grows with the bytes that are really there, never with a length that the file only claims.
    """

    def __init__(self, file: Readable, where: str, limit: int) -> None:
        self._file = file
        self.where = where
        self.limit = limit
        self.position = 0

    def byte(self) -> int:
        """The next byte."""
        data = self._read(1) if self.position < self.limit else b""
        if not data:
            raise self.early_end()
        self.position += 1
        return data[0]

    def exactly(self, count: int) -> bytearray:
        """The next ``count`` bytes."""
        self._require(count)
        data = bytearray()
        while len(data) < count:
            data += self._some(count - len(data))
        return data

    def fill(self, buffer: memoryview) -> None:
        """Write the next bytes over all of ``buffer``."""
        self._require(len(buffer))
        done = 0
        while done < len(buffer):
            chunk = self._some(len(buffer) - done)
            buffer[done : done + len(chunk)] = chunk
            done += len(chunk)

    def _require(self, count: int) -> None:
        if count < 0 or count > self.limit - self.position:
            raise CheckpointError(
                f"{self.where}: at byte {self.position} the file asks for {count} bytes, more than a "
                "checkpoint of "
                f"its size may hold ({self.limit}). It is damaged or hostile; nothing was executed."
            )

    def _some(self, most: int) -> bytes:
        chunk = self._read(min(most, _CHUNK))
        if not chunk:
            raise self.early_end()
        self.position += len(chunk)
        return chunk

    def line(self) -> str:
        """The next line of text, without its newline."""
        data = bytearray()
        while (value := self.byte()) != 10:
            data.append(value)
            if len(data) > _MAX_LINE:
                raise CheckpointError(
                    f"{self.where}: overlong name at byte {self.position}: damaged or hostile."
                )
        return self.text(data)

    def integer(self, size: int, *, signed: bool = False) -> int:
        """The next little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.exactly(size), "little", signed=signed)

    def text(self, data: bytearray) -> str:
        """``data`` as UTF-8."""
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CheckpointError(
                f"{self.where}: invalid text before byte {self.position}: damaged."
            ) from error

    def finish(self) -> None:
        """Check that nothing follows, and with it the checksum at the end of a compressed file."""
        if self._read(1):
            raise CheckpointError(
                f"{self.where} goes on after its end: it is damaged, or not one checkpoint."
            )

    def early_end(self) -> CheckpointError:
        """The error of a file that stops too soon."""
        return CheckpointError(
            f"{self.where} ends early, after {self.position} bytes of content: it is truncated. Download it "
            "again."
        )

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.where}: damaged after {self.position} bytes of content ({error}). Download it again."
            ) from error


class _Decompressor(Protocol):
    """What bz2 and lzma decompressors share."""

    eof: bool
    needs_input: bool

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most ``max_length`` more bytes of output."""
        ...


class _Zlib:
    """zlib and gzip streams behind the interface of bz2 and lzma decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._pending = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        output = self._inner.decompress(self._pending + data, max_length)
        self._pending = self._inner.unconsumed_tail
        self.needs_input = not self._pending and len(output) < max_length
        return output


class Inflater(io.RawIOBase):
    """A readable file over a decompressor; each read inflates at most what was asked for."""

    def __init__(self, file: BinaryIO, decompressor: Any) -> None:
        self._file = file
        self._decompressor: _Decompressor = decompressor

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with the next bytes; 0 at the end of the compressed stream."""
        view = memoryview(buffer).cast("B")
        while not self._decompressor.eof:
            data = self._file.read(_CHUNK >> 4) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not data:
                raise EOFError("the compressed data ends early")
            output = self._decompressor.decompress(data, len(view))
            if output:
                view[: len(output)] = output
                return len(output)
        return 0


def open_stream(file: BinaryIO, size: int, where: str) -> ByteStream:
    """The stream of ``file``'s content, decompressed as its first bytes say.

    zlib, gzip, bz2, xz and lzma as joblib writes them; lz4 when the ``lz4`` package is installed.
    """
    magic = file.read(6)
    file.seek(0)
    limit = ALLOWANCE + EXPANSION * size
    if magic[:1] == b"x" or magic[:2] == b"\x1f\x8b":
        decompressor: Any = _Zlib()
    elif magic[:3] == b"BZh":
        decompressor = bz2.BZ2Decompressor()
    elif magic[:5] == b"\xfd7zXZ":
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
    elif magic[:2] == b"]\x00":
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)
    elif magic[:4] == b"\x04\x22\x4d\x18":
        decompressor = _lz4(where)
    else:
        return ByteStream(file, where, size)
    return ByteStream(io.BufferedReader(Inflater(file, decompressor), _CHUNK), where, limit)


def _lz4(where: str) -> Any:
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ImportError as error:
        raise CheckpointError(
            f"{where} is compressed with lz4: pip install 'ghn-init[lz4]' to read it."
        ) from error
    return LZ4FrameDecompressor()
