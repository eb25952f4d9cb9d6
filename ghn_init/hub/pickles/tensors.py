"""Tensors described by a file, checked before they touch memory, and the names that stand for them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ghn_init.hub.pickles.machine import Blob, Record, Token
from ghn_init.hub.pickles.stream import ByteStream

_MAX_DIMENSIONS = 8

STORAGES: dict[str, torch.dtype] = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}

_NUMPY: dict[str, torch.dtype] = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}


class Storage:
    """A run of ``count`` numbers, read when first used."""

    def __init__(self, dtype: torch.dtype, count: int, load: Callable[[Storage], None] | None = None) -> None:
        if type(count) is not int or count < 0:
            raise ValueError(f"a storage of {count!r} numbers")
        self.dtype = dtype
        self.count = count
        self.load = load
        self._data: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.count * self.dtype.itemsize

    def read(self, stream: ByteStream) -> None:
        """Take the numbers from the stream."""
        self._data = read_tensor(stream, self.dtype, self.count)

    def tensor(self) -> Tensor:
        """The numbers, (count,)."""
        if self._data is None:
            if self.load is None:
                raise ValueError("a storage without data")
            self.load(self)
        if self._data is None:
            raise ValueError("a storage that was not read")
        return self._data


@dataclass(frozen=True)
class TensorView:
    """A tensor over a storage, not yet made."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        """The tensor, contiguous."""
        return torch.as_strided(self.storage.tensor(), self.shape, self.stride, self.offset).contiguous()


class NumpyType(Record):
    """``numpy.dtype(code)``; its state gives the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in _NUMPY:
            raise ValueError(f"arrays of numpy type {code!r} are refused (object arrays would run code)")
        self.dtype = _NUMPY[code]

    def build(self, state: Any, stream: Any) -> None:
        """Check the byte order: the second entry of numpy's state."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("a numpy type that is not little-endian and plain")


class NumpyArray(Record):
    """joblib's stand-in for an array: BUILD gives its attributes, and its bytes follow in the file."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    def build(self, state: Any, stream: Any) -> None:
        """Read the array from the stream, as joblib wrote it: padding length, padding, numbers."""
        if type(state) is not dict or self._value is not None:
            raise ValueError("an array without a description")
        kind, order = state.get("dtype"), state.get("order")
        shape = sizes(state.get("shape"))
        if not isinstance(kind, NumpyType) or order not in ("C", "F"):
            raise ValueError("an array of an unknown type or order")
        if state.get("numpy_array_alignment_bytes") is not None:
            stream.exactly(stream.byte())
        count = math.prod(shape)
        flat = read_tensor(stream, kind.dtype, count)
        reversed_axes = tuple(range(len(shape) - 1, -1, -1))
        self._value = (
            flat.reshape(shape) if order == "C" else flat.reshape(shape[::-1]).permute(reversed_axes)
        )

    def tensor(self) -> Tensor:
        """The array as a tensor, contiguous."""
        if self._value is None:
            raise ValueError("an array without data")
        return self._value.contiguous()


def read_tensor(stream: ByteStream, dtype: torch.dtype, count: int) -> Tensor:
    """The next ``count`` little-endian numbers of the stream, (count,), read in place.

    The memory is the operating system's promise until bytes of the file arrive to fill it.
    """
    size = count * dtype.itemsize
    if size > stream.limit:
        raise ValueError(f"{count} numbers of {dtype} in a file of at most {stream.limit} bytes")
    data = torch.empty(size, dtype=torch.uint8, device="cpu")
    stream.fill(data.numpy().data)
    if dtype is torch.bool and size and int(data.max()) > 1:
        raise ValueError("a boolean that is neither 0 nor 1")
    return data.view(dtype)


def sizes(value: Any) -> tuple[int, ...]:
    """A shape or stride from the file, checked to be a short tuple of non-negative integers."""
    if type(value) not in (tuple, list) or len(value) > _MAX_DIMENSIONS:
        raise ValueError(
            f"a shape of type {type(value).__name__} or of more than {_MAX_DIMENSIONS} dimensions"
        )
    if any(type(size) is not int or size < 0 for size in value):
        raise ValueError("a shape with an entry that is not a non-negative integer")
    return tuple(value)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorView:
    """A tensor of ``shape`` that lies within its storage and repeats none of its numbers."""
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise ValueError("a tensor without a storage")
    shape, stride = sizes(shape), sizes(stride)
    if len(shape) != len(stride):
        raise ValueError(f"a tensor of shape {shape} with strides {stride}")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise ValueError(f"a tensor of shape {shape} over a storage of {storage.count} numbers")
    return TensorView(storage, offset, shape, stride)


def _rebuild_parameter(data: Any, *_: Any) -> TensorView:
    if not isinstance(data, TensorView):
        raise ValueError("a parameter without a tensor")
    return data


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    if items:
        raise ValueError("an OrderedDict with inline items")
    return {}


def _numpy_scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, NumpyType) or not isinstance(data, Blob) or data.data is None:
        raise ValueError("a numpy scalar that is not a plain number")
    stream = ByteStream(io.BytesIO(data.data), "a numpy scalar", len(data.data))
    return read_tensor(stream, kind.dtype, 1).item()


def _encode(text: Any, encoding: Any) -> Blob:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return Blob(bytearray(text.encode("latin1")))


def _size(values: Any = ()) -> tuple[int, ...]:
    return sizes(values)


class Namespace(Record):
    """``argparse.Namespace``: becomes a plain dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def build(self, state: Any, stream: Any) -> None:
        """Take the attributes."""
        if type(state) is not dict:
            raise ValueError("a namespace without attributes")
        self.values = state


def table(tokens: Iterable[Token]) -> dict[str, Token]:
    """Tokens by name."""
    return {token.name: token for token in tokens}


PLAIN_TOKENS: dict[str, Token] = table(
    [
        *(Token(name) for name in STORAGES),
        Token("torch._utils._rebuild_tensor", rebuild_tensor),
        Token("torch._utils._rebuild_tensor_v2", rebuild_tensor),
        Token("torch._utils._rebuild_parameter", _rebuild_parameter),
        Token("torch.Size", _size),
        Token("collections.OrderedDict", _ordered_dict),
        Token("argparse.Namespace", Namespace),
        Token("_codecs.encode", _encode),
        Token("numpy.dtype", NumpyType),
        Token("numpy.core.multiarray.scalar", _numpy_scalar),
        Token("numpy._core.multiarray.scalar", _numpy_scalar),
    ]
)
"""Names that a state dict with a configuration may hold."""
