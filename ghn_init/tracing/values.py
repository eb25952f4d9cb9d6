"""What the recorder knows about a tensor: the fx node that made it, and whether its value is known."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_KEY = "_ghn_init_binding"
_ORDINARY = (Tensor, torch.nn.Parameter)
_PLAIN = (
    *(int, float, bool, str, complex, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


@dataclass(slots=True)
class Binding:
    """Link from a tensor object to the graph.

    Attributes:
        node: The fx node whose value the tensor holds; ``None`` until a parameter or buffer is first used.
        time: When the link was made, in recorder steps; a later write to the storage makes it stale.
        known: The tensor is a CPU tensor with its true value. Else nobody computed the value.
        twin: Stand-in of a known tensor where it meets unknown ones, made when first needed.
        slot: Qualified name of a parameter, buffer or tensor attribute.
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
    if tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage()._cdata


def elements_held(tensor: Tensor) -> int:
    """How many elements the tensor holds in memory: few, where a small tensor was expanded."""
    if tensor.layout is not torch.strided:
        return tensor.numel()
    return min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())


class StandIns:
    """Makes tensors without values: on the meta device, or fake CPU tensors.

    Args:
        fake: Use a ``FakeTensorMode``; slower, but some operations exist only there.
    """

    def __init__(self, fake: bool = False) -> None:
        self.fake_mode: Any = None
        self.device = torch.device("meta")
        if fake:
            from torch._subclasses.fake_tensor import FakeTensorMode

            self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
            self.device = torch.device("cpu")

    def context(self) -> AbstractContextManager[Any]:
        """Entered around every operation on stand-ins."""
        return nullcontext() if self.fake_mode is None else self.fake_mode

    def like(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A stand-in of the same shape, strides and dtype that shares nothing."""
        dtype = dtype or tensor.dtype
        if self.fake_mode is None and type(tensor) in _ORDINARY and tensor.layout is torch.strided:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=self.device)
        with self.context():
            if type(tensor).__module__.startswith("torch.") and tensor.layout is torch.strided:
                return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=self.device)
            return torch.empty(tensor.shape, dtype=dtype, device=self.device)

    def made(self, tensor: Tensor) -> bool:
        """Whether the tensor has no value."""
        return tensor.is_meta if self.fake_mode is None else tensor.is_meta or hasattr(tensor, "fake_mode")


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside nested tuples, lists, dicts, slices and dataclasses."""
    found: list[Tensor] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif type(value) in _PLAIN:
        return
    elif isinstance(value, (tuple, list)):
        for item in value:
            _gather(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _gather(item, found)
    elif isinstance(value, slice):
        _gather((value.start, value.stop, value.step), found)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            _gather(getattr(value, item.name, None), found)


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Copy of nested containers, slices and dataclasses with each tensor replaced by ``function(tensor)``."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in _PLAIN or isinstance(value, (torch.Size, str)):
        return value
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        if isinstance(value, list):
            return items
        if hasattr(value, "_fields"):
            return type(value)(*items)
        # torch.return_types.* are built from one sequence, as tuple is.
        return type(value)(items)
    if type(value) is dict:
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_tensors(item, function) for item in (value.start, value.stop, value.step)))
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, dict)):
        return _map_dataclass(value, function)
    return value


def _map_dataclass(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Copy with its tensors replaced; the object itself where it holds none."""
    if not tensors_in(value):
        return value
    copied = copy.copy(value)
    for item in dataclasses.fields(value):
        if hasattr(value, item.name):
            object.__setattr__(copied, item.name, map_tensors(getattr(value, item.name), function))
    return copied


def fx_argument(value: Any, node_of: Callable[[Tensor], fx.Node]) -> Any:
    """A function's argument in fx form: tensors become nodes, objects that fx cannot hold their ``repr``."""
    if isinstance(value, Tensor):
        return node_of(value)
    if isinstance(value, _PLAIN) or value is Ellipsis or isinstance(value, range):
        return value
    if isinstance(value, (tuple, list)):
        items = [fx_argument(item, node_of) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {str(key): fx_argument(item, node_of) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(fx_argument(item, node_of) for item in (value.start, value.stop, value.step)))
    return repr(value)


def describe(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The operation and its tensors' shapes, for people."""
    shapes = [tuple(tensor.shape) for tensor in tensors_in((args, dict(kwargs)))]
    return f"{getattr(func, '__name__', func)} on shapes {', '.join(map(str, shapes)) or 'none'}"


def aliased(before: Tensor, written: Tensor) -> Tensor:
    """Target of the node that stands for a view of a storage after an in-place write through another view."""
    del written
    return before


def as_size(tensor: Tensor) -> Any:
    """A known whole number as such, for sizes; other tensors as they are."""
    return int(tensor) if tensor.dim() == 0 and not tensor.is_floating_point() else tensor


def wrapped_in(tensor: Tensor) -> list[Tensor]:
    """The tensors inside a wrapper, such as scaled values of a lower precision; nothing for other tensors."""
    if not is_traceable_wrapper_subclass(tensor):
        return []
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
