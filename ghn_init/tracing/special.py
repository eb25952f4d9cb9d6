"""Torch functions that the recorder treats on their own."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from ghn_init.tracing.recorder import Recorder

Handler = Callable[["Recorder", Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@functools.lru_cache
def _body(func: types.FunctionType) -> types.FunctionType:
    """The function without its dispatch to torch-function modes, so that what it calls is recorded instead."""
    scope = {**func.__globals__, "has_torch_function": lambda *_: False, "has_torch_function_unary": lambda *_: False}
    body = types.FunctionType(func.__code__, scope, func.__name__, func.__defaults__, func.__closure__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def _recurse(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with recorder:
        return _body(func)(*args, **kwargs)


def _same(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A move between devices: the same value."""
    return args[0]


def _batch_norm(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return recorder.call(func, args, kwargs)


SPECIAL: dict[Any, Handler] = {
    F.multi_head_attention_forward: _recurse,
    torch.Tensor.cuda: _same,
    torch.Tensor.cpu: _same,
}
