"""A pickle virtual machine that cannot execute anything.

A pickle is a program that may call any Python function by name. This machine knows only the instructions that
checkpoints need, and a name in the file is looked up in a fixed table of constructors of this package; it is
never imported. Reference of the instructions: the standard library's ``pickletools``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ghn_init.errors import CheckpointError
from ghn_init.hub.pickles.stream import ByteStream

_MAX_INSTRUCTIONS = 300_000
"""Several times what a training checkpoint of the largest GHN-3 needs; bounds the objects that are made."""
_MAX_TEXT = 1 << 20
_MAX_LONG = 32
_STOP = 0x2E
_MARK = object()


@dataclass(frozen=True)
class Token:
    """What a global name in a file stands for: a constructor of this package, or an inert marker.

    Attributes:
        name: ``module.name`` as in the file.
        construct: called with the arguments of the file for REDUCE and NEWOBJ; None for names that are only
            data.
    """

    name: str
    construct: Callable[..., Any] | None = None


class Record:
    """An object under construction whose state the file sets with BUILD."""

    def build(self, state: Any, stream: ByteStream) -> None:
        """Take the state. ``stream`` stands right after the instruction (joblib puts array bytes there)."""
        raise ValueError("this object takes no state")


class Blob:
    """Bytes of the file. ``decoded`` replaces them once they were turned into something else."""

    __slots__ = ("data", "decoded")

    def __init__(self, data: bytearray) -> None:
        self.data: bytearray | None = data
        self.decoded: Any = None


class PickleMachine:
    """Runs one pickle of a stream.

    Args:
        stream: positioned at the start of the pickle; afterwards right behind its STOP.
        tokens: allowed global names.
        persistent: resolves persistent ids (torch storages); None refuses them.
    """

    def __init__(
        self,
        stream: ByteStream,
        tokens: Mapping[str, Token],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._stream = stream
        self._tokens = tokens
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The pickled value, of plain Python values, blobs, records and what the tokens construct.

        Raises:
            CheckpointError: the file is truncated or malformed, or names a global that is not allowed.
        """
        try:
            return self._interpret()
        except CheckpointError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RuntimeError) as error:
            raise self._error(f"{type(error).__name__}: {error}") from error

    def _interpret(self) -> Any:
        read_code = self._stream.byte
        for _ in range(_MAX_INSTRUCTIONS):
            code = read_code()
            if code == _STOP:
                return self._pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise ValueError(f"instruction {code:#04x} is not one that checkpoints use")
            instruction(self)
        raise ValueError(f"more than {_MAX_INSTRUCTIONS} instructions")

    def _error(self, problem: str) -> CheckpointError:
        return CheckpointError(
            f"{self._stream.where}: malformed pickle before byte {self._stream.position}: {problem}. The "
            "file is damaged, hostile or no GHN checkpoint; nothing in it was executed."
        )

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark is no value")
        return value

    def _top(self) -> Any:
        value = self._stack[-1]
        if value is _MARK:
            raise ValueError("a mark is no value")
        return value

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise ValueError("no mark on the stack")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    # Constants.

    def _push_text(self, size: int) -> None:
        if size > _MAX_TEXT:
            raise ValueError(f"a text of {size} bytes")
        self._push(self._stream.text(self._stream.exactly(size)))

    def _push_blob(self, size: int) -> None:
        self._push(Blob(self._stream.exactly(size)))

    def _push_long(self) -> None:
        size = self._stream.byte()
        if size > _MAX_LONG:
            raise ValueError(f"an integer of {size} bytes")
        self._push(self._stream.integer(size, signed=True))

    def _push_float(self) -> None:
        self._push(struct.unpack(">d", self._stream.exactly(8))[0])

    # Containers.

    def _tuple(self, count: int) -> None:
        items = tuple(self._pop() for _ in range(count))
        self._push(items[::-1])

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise TypeError(f"append to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict:
            raise TypeError(f"set an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise TypeError(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _pop_pair(self) -> list[Any]:
        value = self._pop()
        return [self._pop(), value]

    # Memory.

    def _memoize(self, index: int | None = None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._top()

    def _recall(self, index: int) -> None:
        self._push(self._memo[index])

    # Names and objects.

    def _push_global(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        token = self._tokens.get(full)
        if token is None:
            raise CheckpointError(
                f"{self._stream.where}: refused {full} before byte {self._stream.position}. A GHN "
                "checkpoint holds tensors and plain values, and this file wants other code to run on "
                "loading; nothing was executed. Do not load it with torch.load or joblib.load unless you "
                "trust whoever made it."
            )
        self._push(token)

    def _stack_global(self) -> None:
        module, name = self._pop_pair()
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global's name is not text")
        self._push_global(module, name)

    def _construct(self) -> None:
        arguments, token = self._pop(), self._pop()
        if not isinstance(token, Token) or token.construct is None:
            raise TypeError(f"call of {token.name if isinstance(token, Token) else type(token).__name__}")
        if type(arguments) is not tuple:
            raise TypeError("arguments are not a tuple")
        self._push(token.construct(*arguments))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Record):
            target.build(state, self._stream)
        elif type(target) is not dict:  # attributes of an OrderedDict (a state dict's _metadata) are dropped
            raise TypeError(f"state for a {type(target).__name__}")

    def _resolve_persistent(self) -> None:
        if self._persistent is None:
            raise ValueError("a persistent id outside of a torch file")
        self._push(self._persistent(self._pop()))


_M = PickleMachine

# pyright: reportPrivateUsage=false
_INSTRUCTIONS: Mapping[int, Callable[[PickleMachine], Any]] = {
    0x80: lambda m: m._stream.byte(),  # PROTO
    0x95: lambda m: m._stream.exactly(8),  # FRAME: only a hint for buffering
    ord("("): lambda m: m._push(_MARK),
    ord("0"): lambda m: m._pop(),
    ord("1"): lambda m: m._pop_to_mark(),
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    ord("J"): lambda m: m._push(m._stream.integer(4, signed=True)),
    ord("K"): lambda m: m._push(m._stream.integer(1)),
    ord("M"): lambda m: m._push(m._stream.integer(2)),
    0x8A: _M._push_long,
    ord("G"): _M._push_float,
    0x8C: lambda m: m._push_text(m._stream.integer(1)),
    ord("X"): lambda m: m._push_text(m._stream.integer(4)),
    0x8D: lambda m: m._push_text(m._stream.integer(8)),
    ord("C"): lambda m: m._push_blob(m._stream.integer(1)),
    ord("B"): lambda m: m._push_blob(m._stream.integer(4)),
    0x8E: lambda m: m._push_blob(m._stream.integer(8)),
    0x96: lambda m: m._push_blob(m._stream.integer(8)),  # BYTEARRAY8
    ord("]"): lambda m: m._push([]),
    ord("a"): lambda m: m._append([m._pop()]),
    ord("e"): lambda m: m._append(m._pop_to_mark()),
    ord("l"): lambda m: m._push(m._pop_to_mark()),
    ord(")"): lambda m: m._push(()),
    0x85: lambda m: m._tuple(1),
    0x86: lambda m: m._tuple(2),
    0x87: lambda m: m._tuple(3),
    ord("t"): lambda m: m._push(tuple(m._pop_to_mark())),
    ord("}"): lambda m: m._push({}),
    ord("s"): lambda m: m._set_items(m._pop_pair()),
    ord("u"): lambda m: m._set_items(m._pop_to_mark()),
    0x94: lambda m: m._memoize(),
    ord("q"): lambda m: m._memoize(m._stream.integer(1)),
    ord("r"): lambda m: m._memoize(m._stream.integer(4)),
    ord("h"): lambda m: m._recall(m._stream.integer(1)),
    ord("j"): lambda m: m._recall(m._stream.integer(4)),
    ord("c"): lambda m: m._push_global(m._stream.line(), m._stream.line()),
    0x93: _M._stack_global,
    ord("R"): _M._construct,
    0x81: _M._construct,  # NEWOBJ
    ord("b"): _M._build,
    ord("Q"): _M._resolve_persistent,
}
