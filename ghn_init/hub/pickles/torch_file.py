"""The two file formats of ``torch.save``: a zip archive, and the older pickles followed by raw storages."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from ghn_init.errors import CheckpointError
from ghn_init.hub.pickles.machine import PickleMachine, Token
from ghn_init.hub.pickles.stream import ByteStream
from ghn_init.hub.pickles.tensors import PLAIN_TOKENS, STORAGES, Storage

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MAX_STORAGES = 1 << 16
_MAX_PICKLE = 64 << 20
T = TypeVar("T")

_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError)


class _TorchArchive:
    """The entries of a torch zip archive, read raw: torch stores them uncompressed."""

    def __init__(self, file: BinaryIO, size: int, where: str) -> None:
        self._size = size
        self._where = where
        self._storages: dict[str, Storage] = {}
        self._spent = 0
        try:
            self._archive = zipfile.ZipFile(file)
            self._entries = {entry.filename: entry for entry in self._archive.infolist()}
        except _ZIP_ERRORS as error:
            raise CheckpointError(
                f"{where} is a damaged zip archive ({error}): download it again."
            ) from error
        pickles = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CheckpointError(
                f"{where} is a zip archive that torch.save did not write (no single data.pkl)."
            )
        self._prefix = pickles[0].removesuffix("data.pkl")
        if self.has("constants.pkl"):
            raise CheckpointError(f"{where} is a TorchScript program: save the GHN's state dict instead.")

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name."""
        return self._prefix + name in self._entries

    def content(self, name: str, limit: int) -> bytearray:
        """The bytes of an entry, at most ``limit``."""
        return self._read(name, limit, lambda stream: stream.exactly(stream.limit))

    def _read(self, name: str, limit: int, consume: Callable[[ByteStream], T]) -> T:
        """What ``consume`` makes of an entry's bytes. Reading all of them checks their CRC."""
        where = f"{self._where}: entry {name}"
        entry = self._entries.get(self._prefix + name)
        if entry is None:
            raise CheckpointError(f"{where} is missing: the file is damaged.")
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not plain or entry.file_size > min(self._size, limit):
            raise CheckpointError(
                f"{where} is compressed, encrypted or too large; torch writes no such entry."
            )
        try:
            with self._archive.open(entry) as member:
                stream = ByteStream(member, where, entry.file_size)
                result = consume(stream)
                stream.finish()
        except CheckpointError:
            raise
        except _ZIP_ERRORS as error:
            raise CheckpointError(f"{where} is damaged ({error}): download it again.") from error
        return result

    def storage(self, pid: Any) -> Storage:
        """The storage of a persistent id; its numbers are read when used."""
        dtype, key, count = _storage_id(pid)
        storage = self._storages.get(key)
        if storage is None:
            entry = f"data/{key}"
            storage = Storage(dtype, count, lambda storage: self._read(entry, storage.bytes, storage.read))
            self._storages[key] = storage
            self._spent += storage.bytes
        if self._spent > self._size or storage.dtype is not dtype or storage.count != count:
            raise ValueError("storages that overlap or exceed the file")
        return storage


def read_zip(file: BinaryIO, size: int, where: str) -> Any:
    """The object in a torch zip archive; its storages are read from ``file`` when used."""
    archive = _TorchArchive(file, size, where)
    if archive.has("byteorder") and archive.content("byteorder", 16) != b"little":
        raise _big_endian(where)
    data = archive.content("data.pkl", _MAX_PICKLE)
    stream = ByteStream(io.BytesIO(data), f"{where} (data.pkl)", len(data))
    return PickleMachine(stream, PLAIN_TOKENS, archive.storage).run()


def read_legacy_body(stream: ByteStream) -> Any:
    """The object of an old torch file, from right behind its magic number.

    Layout: pickles of the format version, the system's sizes, the object and the storage keys; then each
    storage as an 8-byte count and raw numbers.
    """
    where = stream.where
    if PickleMachine(stream, {}).run() != _LEGACY_VERSION:
        raise CheckpointError(f"{where}: unknown version of the old torch format.")
    system = PickleMachine(stream, {}).run()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _big_endian(where)
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        dtype, key, count = _storage_id(pid)
        storage = storages.setdefault(key, Storage(dtype, count))
        if storage.dtype is not dtype or storage.count != count or len(storages) > _MAX_STORAGES:
            raise ValueError("a storage that is described twice")
        return storage

    value = PickleMachine(stream, PLAIN_TOKENS, persistent).run()
    keys = PickleMachine(stream, {}).run()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise CheckpointError(f"{where}: its list of storages does not match its tensors: damaged.")
    for key in keys:
        storage = storages[key]
        if stream.integer(8) != storage.count:
            raise CheckpointError(f"{where}: storage {key} has another size than its tensors: damaged.")
        storage.read(stream)
    return value


def _big_endian(where: str) -> CheckpointError:
    return CheckpointError(f"{where} was not written on a little-endian machine, which is not supported.")


def _storage_id(pid: Any) -> tuple[Any, str, int]:
    """(dtype, key, count) of a persistent id ``("storage", type, key, location, count[, None])``."""
    if (
        type(pid) is not tuple
        or len(pid) not in (5, 6)
        or pid[0] != "storage"
        or pid[5:] not in ((), (None,))
    ):
        raise ValueError("a persistent id that is no storage")
    kind, key, count = pid[1], pid[2], pid[4]
    if not isinstance(kind, Token) or kind.name not in STORAGES:
        raise ValueError("a storage of an unknown type")
    if type(key) is not str or type(count) is not int:
        raise ValueError("a storage without a key or a size")
    return STORAGES[kind.name], key, count
