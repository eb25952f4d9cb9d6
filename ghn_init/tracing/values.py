"""What the recorder knows about a tensor: the fx node that made it, and whether its value is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

_KEY = "_ghn_init_binding"


@dataclass(slots=True)
class Binding:
    """Link from a tensor object to the graph.

    Attributes:
        node: The fx node whose value the tensor holds.
        time: When the link was made, in recorder steps; an in-place write to the storage after it makes it stale.
        known: The tensor is a CPU tensor with its true value. Else it stands for a value nobody computed.
        twin: Meta stand-in of a tensor that is itself not on meta, made when first needed.
        slot: Qualified name, for a parameter, buffer or tensor attribute that has no node yet.
    """

    node: fx.Node | None
    time: int
    known: bool
    twin: Tensor | None = None
    slot: str | None = None


def binding_of(tensor: Tensor) -> Binding | None:
    """The tensor's link, if the recorder has met it."""
    return getattr(tensor, _KEY, None)


def bind(tensor: Tensor, binding: Binding) -> None:
    """Link the tensor object to the graph."""
    object.__setattr__(tensor, _KEY, binding)


def storage_key(tensor: Tensor) -> int:
    """Address of the tensor's storage; views of one tensor share it."""
    return tensor.untyped_storage()._cdata


def meta_like(tensor: Tensor) -> Tensor:
    """A meta tensor of the same shape, strides and dtype that shares nothing."""
    if tensor.layout is not torch.strided:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor inside nested tuples, lists, dicts and slices."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, slice):
        for item in (value.start, value.stop, value.step):
            if isinstance(item, Tensor):
                yield item


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Copy of a nested structure with each tensor replaced by ``function(tensor)``."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_tensors(item, function) for item in (value.start, value.stop, value.step)))
    return value
