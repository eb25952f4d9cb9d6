"""Keep hooks and replaced methods of a copied model from reaching the user's objects."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

from torch import nn

_BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
_FORWARD = ("_forward_hooks", "_forward_pre_hooks")
_CONTAINERS = (list, dict, set)


def detach_functions(module: nn.Module, memo: dict[int, Any]) -> None:
    """Rebind functions held by the copy to copies of what they captured.

    A deep copy shares plain functions. A hook, or a method replaced on an instance, may have captured
    the user's modules, lists or dictionaries: those become copies, so that running it shows nowhere else.

    Args:
        module: The deep copy.
        memo: The deep copy's memo: ``id`` of an original object → its copy.
    """
    for part in module.modules():
        for name in _BACKWARD:
            part.__dict__[name].clear()
        for name in _FORWARD:
            hooks = part.__dict__[name]
            for key, hook in list(hooks.items()):
                hooks[key] = detached(hook, memo)
        for key, value in part.__dict__.items():
            if type(value) is types.FunctionType or isinstance(value, functools.partial):
                part.__dict__[key] = detached(value, memo)


def detached(function: Callable[..., Any], memo: dict[int, Any]) -> Callable[..., Any]:
    """The function with copies of the containers and modules that it captured."""
    if isinstance(function, functools.partial):
        return functools.partial(detached(function.func, memo), *function.args, **function.keywords)
    if not isinstance(function, types.FunctionType):
        return function
    if id(function) in memo and memo[id(function)] is not function:
        return memo[id(function)]
    changed = {
        name: function.__globals__[name]
        for name in function.__code__.co_names
        if isinstance(function.__globals__.get(name), (*_CONTAINERS, nn.Module))
    }
    if not function.__closure__ and not changed:
        return function
    scope = function.__globals__
    if changed:
        scope = {**scope, **{name: _copied(value, memo) for name, value in changed.items()}}
    closure = function.__closure__ or ()
    cells = tuple(types.CellType() for _ in closure)
    result = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, cells or None
    )
    result.__kwdefaults__ = function.__kwdefaults__
    result.__dict__.update(function.__dict__)
    # Known before the cells are filled: a function may have captured itself.
    memo[id(function)] = result
    for cell, original in zip(cells, closure, strict=True):
        try:
            cell.cell_contents = _copied(original.cell_contents, memo)
        except ValueError:  # an empty cell
            continue
    return result


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """The value's copy, or the value itself where it cannot be copied."""
    if isinstance(value, types.FunctionType):
        return detached(value, memo)
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001 - any object may refuse in its own way
        return value
