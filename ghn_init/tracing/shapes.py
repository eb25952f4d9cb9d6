"""Results of torch functions on tensors without values: computed once for each combination of shapes."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ghn_init.tracing.values import storage_key

_NATIVE = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    torch._ops.OpOverload,
)
_PLAIN = frozenset(
    {
        *(int, float, bool, str, complex, type(None), type(Ellipsis)),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    }
)


class _UnknownError(Exception):
    """An argument whose influence on the result's shape is not known."""


class Layout(NamedTuple):
    """All there is to know of a tensor without a value."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class ShapeCache:
    """Function and arguments → layout of the result, or number of the input that it is.

    Layers of a network repeat, and torch computes many layouts in Python, at up to a millisecond each.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Layout | int] = {}

    def key(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        """What the layout of the result depends on; ``None`` if that cannot be told.

        Args:
            func: The function.
            args: Its arguments; no tensor has a value that counts.
            kwargs: Its keyword arguments.
        """
        # Functions of others may depend on more than their arguments.
        if not isinstance(func, _NATIVE) and not _is_of_torch(func):
            return None
        try:
            named = tuple((name, _part(value)) for name, value in kwargs.items()) if kwargs else ()
            return (func, named, *[_part(value) for value in args])
        except _UnknownError:
            return None

    def recall(self, key: tuple[Any, ...], inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]] | None:
        """What the function returned for this key, on these inputs: the result, and the inputs written."""
        known = self._known.get(key)
        if known is None:
            return None
        if isinstance(known, int):
            return inputs[known], [inputs[known]]
        return torch.empty_strided(known.shape, known.stride, dtype=known.dtype, device="meta"), []

    def learn(
        self, key: tuple[Any, ...], inputs: Sequence[Tensor], result: Any, written: Sequence[Tensor]
    ) -> None:
        """Remember what the function returned.

        That is done if it is one tensor that shares no memory with the inputs, or the only input written, of
        the layout that it had.
        """
        if type(result) is not Tensor or not result.is_meta or result.layout is not torch.strided:
            return
        if written:
            places = [i for i, tensor in enumerate(inputs) if tensor is result]
            if places and len(written) == 1 and written[0] is result and _part(result) in key:
                self._known[key] = places[0]
            return
        memory = storage_key(result)
        if not result._is_view() and all(storage_key(tensor) != memory for tensor in inputs):
            self._known[key] = Layout(tuple(result.shape), result.stride(), result.dtype)


def _is_of_torch(func: Callable[..., Any]) -> bool:
    return isinstance(func, types.FunctionType) and func.__module__.startswith("torch.")


def _part(value: Any) -> Any:
    kind = type(value)
    if kind is Tensor or kind is nn.Parameter:
        if value.layout is not torch.strided or not value.is_meta:
            raise _UnknownError
        return value.shape, value.stride(), value.dtype
    if kind in _PLAIN:
        return kind, value
    if kind in (tuple, list, torch.Size):
        return (kind, *[_part(item) for item in value])
    raise _UnknownError
