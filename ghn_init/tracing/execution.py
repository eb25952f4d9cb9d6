"""One run of one torch function: on values where all are known, else on stand-ins, else on zeros."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor

from ghn_init.tracing.rules.functions import base_function
from ghn_init.tracing.values import Binding, StandIns, map_tensors

# Operations that tell no shapes are run on zeros of at most this many elements.
_ZERO_ELEMENTS = 1 << 22


class Execution:
    """One run of one function: which tensors stand in for which, and what was written in place."""

    def __init__(
        self,
        stand_ins: StandIns,
        constructors: Container[Callable[..., Any]],
        func: Callable[..., Any],
        inputs: list[Tensor],
        links: dict[int, Binding],
        known: bool,
    ) -> None:
        self.stand_ins, self.constructors = stand_ins, constructors
        self.func, self.inputs, self.links, self.known = func, inputs, links, known
        self.device = torch.device("cpu") if known else stand_ins.device
        self.real: set[int] = set()
        self.ones: dict[int, Tensor] = {}
        self.zeros: dict[int, Tensor] = {}
        self.dtype: torch.dtype | None = None
        self.back: dict[int, Tensor] = {}
        self.changed: list[Tensor] = []

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function's result; inputs returned by identity come back as the caller's own objects."""
        if "device" in kwargs or (not self.inputs and self.func in self.constructors):
            kwargs = {**kwargs, "device": self.device}
        try:
            return self._attempt(args, kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if self.known:
                raise
            first = failure = error
        for prepare in (self._adjust, self._guess_sizes):
            try:
                if prepare():
                    return self._attempt(args, kwargs)
            except NotImplementedError as error:
                failure = error
                break
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                failure = error
        shapeless = isinstance(failure, NotImplementedError) or _is_custom(self.func)
        if shapeless and sum(tensor.numel() for tensor in self.inputs) <= _ZERO_ELEMENTS:
            return self._on_zeros(args, kwargs)
        raise first

    def _on_zeros(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operation that cannot tell its shapes, as stand-ins shaped as for zeros.

        Known values (the window of a spectrogram) are not replaced.
        """
        self.zeros = {
            id(tensor): tensor
            if self.links[id(tensor)].known
            else torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
            for tensor in self.inputs
        }
        self.back = {id(self.zeros[id(tensor)]): tensor for tensor in self.inputs}
        own = {id(tensor) for tensor in self.inputs}
        device, self.device = self.device, torch.device("cpu")
        try:
            if "device" in kwargs:
                kwargs = {**kwargs, "device": self.device}
            result = self._attempt(args, kwargs)
        finally:
            self.device = device
        return map_tensors(
            result, lambda tensor: tensor if id(tensor) in own else self.stand_ins.like(tensor)
        )

    def _adjust(self) -> bool:
        """Prepare another attempt: real values where sizes are expected, one dtype where they are mixed."""
        floats = [tensor.dtype for tensor in self.inputs if tensor.is_floating_point()]
        if len(set(floats)) > 1:
            self.dtype = torch.float32 if torch.float64 not in floats else torch.float64
        whole = {
            id(tensor)
            for tensor in self.inputs[1:]
            if self.links[id(tensor)].known and not tensor.is_floating_point()
        }
        changed = self.dtype is not None or not whole <= self.real
        self.real |= whole
        return changed

    def _guess_sizes(self) -> bool:
        """Prepare another attempt: where sizes are expected, whole numbers that nobody computed are ones."""
        self.ones = {
            id(tensor): torch.ones((), dtype=tensor.dtype, device="cpu")
            for tensor in self.inputs
            if tensor.dim() == 0 and not tensor.is_floating_point() and not self.links[id(tensor)].known
        }
        return bool(self.ones)

    def _attempt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        used = [self._stand_in(tensor) for tensor in self.inputs]
        versions = [_version(tensor) for tensor in used]
        run_args = tuple(self._argument(arg) for arg in args)
        run_kwargs = {key: self._argument(arg) for key, arg in kwargs.items()} if kwargs else kwargs
        if self.known or self.zeros:
            result = self.func(*run_args, **run_kwargs)
        else:
            with self.stand_ins.context():
                result = self.func(*run_args, **run_kwargs)
        self.changed = [
            tensor
            for tensor, stand_in, version in zip(self.inputs, used, versions, strict=True)
            if _version(stand_in) != version
        ]
        if self.back:
            result = map_tensors(result, lambda tensor: self.back.get(id(tensor), tensor))
        return result

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, torch.device):
            return self.device
        return map_tensors(argument, self._stand_in)

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if self.known:
            return tensor
        if self.zeros:
            return self.zeros[id(tensor)]
        if id(tensor) in self.real:
            return tensor
        if id(tensor) in self.ones:
            return self.ones[id(tensor)]
        link = self.links[id(tensor)]
        if link.twin is None and self.stand_ins.made(tensor):
            stand_in = tensor
        else:
            if link.twin is None:
                link.twin = self.stand_ins.like(tensor)
            stand_in = link.twin
        if self.dtype is not None and tensor.is_floating_point() and tensor.dtype != self.dtype:
            return self.stand_ins.like(tensor, self.dtype)
        if stand_in is not tensor:
            self.back[id(stand_in)] = tensor
        return stand_in


def makes_few(most: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a factory's result has at most so many elements, or nobody knows how many."""
    if func in (torch.tensor, torch.asarray, torch.as_tensor):
        return True
    try:
        return func(*args, **{**kwargs, "device": "meta"}).numel() <= most
    except (TypeError, RuntimeError, NotImplementedError):
        return True


def _is_custom(func: Any) -> bool:
    """Whether an operation was registered by another library, or is an autograd function of the user's own.

    Neither may be able to tell its shapes.
    """
    if isinstance(base_function(func), type):
        return True
    name = getattr(func, "_qualified_op_name", "") or getattr(func, "_name", "")
    return "::" in str(name) and not str(name).startswith(("aten::", "prim::"))


def _version(tensor: Tensor) -> int:
    """Count of in-place writes; inference tensors have none."""
    return -1 if tensor.is_inference() else tensor._version
