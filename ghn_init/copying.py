"""Deep copies of models: what ``copy.deepcopy`` gives, without its cost for each module's bookkeeping."""

from __future__ import annotations

import copy
import copyreg
import functools
import types
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_ATOMIC = frozenset(
    {
        *(int, float, bool, str, bytes, complex, type(None), type(Ellipsis), type(NotImplemented)),
        *(type, range, types.FunctionType, types.BuiltinFunctionType),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    }
)
"""Classes whose instances a deep copy shares."""

# What ``nn.Module`` keeps for itself; seldom filled, and never shared between modules.
_BOOKKEEPING = frozenset(name for name, value in nn.Module().__dict__.items() if type(value) is OrderedDict)
_COMPILED = "_compiled_call_impl"  # compiled code, which a copy of a module is without
_PLAIN_STATES = (getattr(object, "__getstate__", None), getattr(nn.Module, "__getstate__", None))


@functools.lru_cache(maxsize=4096)
def copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a deep copy of such a module is a new object with a deep copy of its ``__dict__``."""
    return (
        not hasattr(kind, "__deepcopy__")
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) in _PLAIN_STATES
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind.__new__ is object.__new__
        and kind not in copyreg.dispatch_table
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]
    )


def make_shells(modules: Iterable[tuple[nn.Module, type[nn.Module]]], memo: dict[int, Any]) -> None:
    """Put an empty copy, of the class given, of each module into the memo."""
    for module, kind in modules:
        memo[id(module)] = kind.__new__(kind)


def copied_state(module: nn.Module, memo: dict[int, Any], without: str | None = None) -> dict[str, Any]:
    """A deep copy of a module's state.

    Args:
        module: The module.
        memo: The deep copy's memo, with a shell of each submodule.
        without: Start of the names of attributes to leave out.
    """
    state: dict[str, Any] = {}
    for key, value in module.__dict__.items():
        if key == _COMPILED or (without is not None and key.startswith(without)):
            continue
        kind = type(value)
        if kind in _ATOMIC:
            state[key] = value
        elif kind is OrderedDict and not value and key in _BOOKKEEPING:
            state[key] = OrderedDict()
        else:
            state[key] = _copied(value, memo)
    return state


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _ATOMIC:
        return value
    known = memo.get(id(value))
    if known is not None:
        return known
    if kind is dict or (kind is OrderedDict and not value.__dict__):
        result = memo[id(value)] = kind()
        for key, item in value.items():
            result[key if type(key) in _ATOMIC else copy.deepcopy(key, memo)] = _copied(item, memo)
        return result
    if kind in (tuple, set) and all(type(item) in _ATOMIC for item in value):
        return value if kind is tuple else memo.setdefault(id(value), set(value))
    return copy.deepcopy(value, memo)
