"""Scripted functions as Python: what TorchScript prints of one, run on the operations that it names."""

from __future__ import annotations
import __future__

import math
import operator
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

_SCALAR: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "pow", "neg", "gt", "ge", "lt", "le", "eq", "ne", "pos", "abs")
}
_SCALAR |= {
    **{"div": operator.truediv, "floordiv": operator.floordiv, "remainder": operator.mod, "fmod": math.fmod},
    **{
        "__and__": operator.and_,
        "__or__": operator.or_,
        "__xor__": operator.xor,
        "bitwise_not": operator.inv,
    },
    **{"min": min, "max": max, "floor": math.floor, "ceil": math.ceil, "round": round, "sqrt": math.sqrt},
    **{"log": math.log, "exp": math.exp, "sin": math.sin, "cos": math.cos, "tanh": math.tanh},
    **{"Int": int, "Float": float, "Bool": bool, "str": str, "format": str.format, "list": list, "len": len},
    **{"__contains__": operator.contains, "hash": hash, "ord": ord, "__not__": operator.not_},
}
"""Operations whose operands are plain values; with a tensor among them they are those of ``torch.ops``."""
_ALWAYS: dict[str, Callable[..., Any]] = {
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "len": len,
    "dim": Tensor.dim,
    "numel": Tensor.numel,
    "size": lambda tensor, *axis: tensor.size(*axis) if axis else list(tensor.size()),
    "is_floating_point": Tensor.is_floating_point,
    "is_complex": Tensor.is_complex,
    "warn": lambda *_, **__: None,
    **dict.fromkeys(("IntImplicit", "FloatImplicit", "ScalarImplicit", "Int", "Float", "item"), Tensor.item),
    "Bool": bool,
}
_DTYPES = dict(
    enumerate((torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32))
)
_DTYPES |= {7: torch.float64, 9: torch.complex64, 10: torch.complex128, 11: torch.bool, 15: torch.bfloat16}
"""The numbers that TorchScript has for them (``c10/core/ScalarType.h``)."""
_FACTORIES = ("zeros", "ones", "empty", "full", "arange", "tensor", "eye", "linspace", "rand", "randn")


def as_python(function: Any) -> Callable[..., Any]:
    """A Python function of the same arguments that runs each operation of a scripted one by itself.

    Raises:
        SyntaxError: What TorchScript prints of it is no Python.
        NameError: It has constants that are tensors, or types of its own.
    """
    inlined: Any = torch._C._create_function_from_graph("scripted", function.inlined_graph)
    source: str = inlined.code
    if "CONSTANTS" in source or "__torch__" in source:
        raise NameError("it has constants or types of its own")
    space: dict[str, Any] = {**vars(typing), "Tensor": Tensor, "torch": _Operations(), "ops": _Spaces()}
    space |= {"annotate": _second, "unchecked_cast": _second, "uninitialized": _nothing, "inf": math.inf}
    exec(compile(source, "<scripted>", "exec", flags=__future__.annotations.compiler_flag), space)
    schema: Any = function.schema
    body, arguments = space["scripted"], schema.arguments

    def call(*args: Any, **kwargs: Any) -> Any:
        rest = (kwargs.get(each.name, each.default_value) for each in arguments[len(args) :])
        return body(*args, *rest)

    return call


def _second(kind: Any, value: Any) -> Any:
    return value


def _nothing(kind: Any) -> None:
    return None


class _Operations:
    """``torch.NAME`` as the printed code means it."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            first = args[0] if args else None
            if not any(isinstance(each, Tensor) for each in args):
                if isinstance(first, (list, dict, str)) and hasattr(type(first), name):
                    return getattr(first, name)(*args[1:])
                if isinstance(first, list) and name == "slice":
                    return first[slice(*args[1:])]
                if name in _SCALAR:
                    return _SCALAR[name](*args)
            elif isinstance(first, list) and hasattr(list, name):
                return getattr(first, name)(*args[1:])
            if name in _ALWAYS:
                return _ALWAYS[name](*args)
            if name in _FACTORIES:
                return getattr(torch, name)(*args, **{key: _typed(key, each) for key, each in kwargs.items()})
            return getattr(torch.ops.aten, name)(*args, **kwargs)

        return call


class _Spaces:
    """``ops.SPACE.NAME``: properties of tensors, and operators of other libraries."""

    def __getattr__(self, space: str) -> Any:
        return _PRIMITIVES if space == "prim" else getattr(torch.ops, space)


def _raise(message: str, *_: Any) -> None:
    raise RuntimeError(message)


_PRIMITIVES = SimpleNamespace(
    dtype=lambda tensor: tensor.dtype,
    device=lambda tensor: tensor.device,
    layout=lambda tensor: tensor.layout,
    requires_grad=lambda tensor: tensor.requires_grad,
    is_cuda=lambda tensor: False,
    data=lambda tensor: tensor.data,
    min=min,
    max=max,
    abs=abs,
    NumToTensor=lambda value: torch.tensor(value),
    RaiseException=_raise,
)


def _typed(key: str, value: Any) -> Any:
    return _DTYPES[value] if key == "dtype" and isinstance(value, int) else value
