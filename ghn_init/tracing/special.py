"""Torch functions that the recorder treats on their own."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.tracing.selection import getitem, positions, reshape, setitem, where
from ghn_init.tracing.unknown_sizes import (
    grouped_mm,
    recurrent,
    repeat_interleave,
    sparse_indices,
    sparse_values,
    split,
)
from ghn_init.tracing.values import map_tensors, tensors_in

if TYPE_CHECKING:
    from ghn_init.tracing.mode import Recorder

Handler = Callable[["Recorder", Any, tuple[Any, ...], dict[str, Any]], Any]

# Questions about shape, layout and kind: the answer needs no value and makes no node.
PLAIN_ANSWERS: set[Any] = {
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.numel,
    Tensor.nelement,
    Tensor.stride,
    Tensor.__len__,
    Tensor.is_floating_point,
    Tensor.is_complex,
    Tensor.is_contiguous,
    Tensor.element_size,
    Tensor.storage_offset,
    Tensor.is_signed,
    Tensor.requires_grad_,
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
    Tensor.__hash__,
    Tensor.__repr__,
    Tensor.is_inference,
}


@functools.lru_cache
def _body(func: types.FunctionType) -> types.FunctionType:
    """The function without its dispatch to torch-function modes: what it calls is recorded instead."""
    off = {"has_torch_function": lambda *_: False, "has_torch_function_unary": lambda *_: False}
    off["has_torch_function_variadic"] = lambda *_: False
    body = types.FunctionType(
        func.__code__, {**func.__globals__, **off}, func.__name__, func.__defaults__, func.__closure__
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def _recurse(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record what the function calls in its place."""
    with recorder:
        return _body(func)(*args, **kwargs)


def _same(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A move between devices: the same value."""
    return args[0]


def _to(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``Tensor.to``: devices, and whether to wait for the move, are dropped; the rest is recorded."""
    rest = tuple(arg for arg in args[1:] if isinstance(arg, (Tensor, torch.dtype)))
    kept = ("dtype", "other", "copy", "memory_format")
    kwargs = {key: value for key, value in kwargs.items() if key in kept and value is not None}
    if not rest and not kwargs:
        return args[0]
    if rest and isinstance(rest[0], Tensor):
        rest = (rest[0].dtype,)
    return recorder.call(func, (args[0], *rest), kwargs)


def _batch_norm(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Batch norm without its demand for more than one value per channel in training."""

    def run(input: Tensor, *rest: Any, **more: Any) -> Tensor:
        return torch.empty_like(input)

    return recorder.call(func, args, kwargs, run=run, known=False)


def _from_guess(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function whose result's size or Python value depends on values: those nobody computed are guessed."""

    def guess(tensor: Tensor) -> Tensor:
        link = recorder.link(tensor)
        return tensor if link.known else recorder.guesses.values(tensor, recorder.stack[-1])

    return func(*map_tensors(args, guess), **map_tensors(kwargs, guess))


def _filled(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A new tensor of another's shape: it depends on no value of that tensor."""
    return recorder.call_fresh(func, args, kwargs)


def _draw(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A random draw, from a generator of the recorder's own: neither the global one nor a user's moves."""

    def run(*values: Any, **options: Any) -> Any:
        device = torch.device(options.get("device", "cpu"))
        if device.type == "meta" or any(recorder.stand_ins.made(tensor) for tensor in tensors_in(values)):
            return func(*values, **options)
        return func(*values, generator=recorder.generator, **options)

    kwargs = {key: value for key, value in kwargs.items() if key != "generator"}
    if func in recorder.constructors:
        kwargs["device"] = torch.device("cpu")
    return recorder.call(func, args, kwargs, run=run)


def _uniform(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A random draw in [0, 1): its middle, so that random skips of layers do not happen."""
    return _draw(recorder, func, args, kwargs).fill_(0.5)


def _uniform_(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As :func:`_uniform`, in place, between other bounds."""
    low = args[1] if len(args) > 1 else kwargs.get("from", 0.0)
    high = args[2] if len(args) > 2 else kwargs.get("to", 1.0)
    drawn = _draw(recorder, func, args, kwargs)
    return drawn.fill_((low + high) / 2) if drawn.device.type == "cpu" else drawn


def _draw_like(function: Any, handler: Handler) -> Handler:
    """A random draw of another tensor's shape, which depends on no value of that tensor."""

    def draw(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        like, *limits = args
        options = {
            key: value for key, value in kwargs.items() if key in ("low", "high", "dtype", "generator")
        }
        options.setdefault("dtype", like.dtype)
        return handler(recorder, function, (*limits, tuple(like.shape)), options)

    return draw


def _gradient(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.autograd.grad`` inside a forward: one operation, whose results are shaped like its inputs."""

    def run(outputs: Any, inputs: Any, *rest: Any, **more: Any) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, [inputs] if isinstance(inputs, Tensor) else inputs))

    return recorder.call(func, args, kwargs, run=run, known=False)


def _unknown(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function whose values are not computed, for they would be random."""
    return recorder.call(func, args, kwargs, known=False)


def _shaped_as(function: Any) -> Handler:
    """A method that takes only the shape of its second tensor: recorded as ``function`` of that shape."""

    def handler(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, other = (*args, *kwargs.values())
        return recorder.call(function, (tensor, tuple(other.shape)), {})

    return handler


def _type_as(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, other = (*args, *kwargs.values())
    return recorder.call(Tensor.to, (tensor, other.dtype), {})


def _broadcast(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``broadcast_tensors``: each result depends on its own tensor only."""
    tensors = args[0] if isinstance(args[0], (tuple, list)) else args
    shape = tuple(torch.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors)))
    return tuple(recorder.call(Tensor.expand, (tensor, shape), {}) for tensor in tensors)


SPECIAL: dict[Any, Handler] = {
    F.multi_head_attention_forward: _recurse,
    F.batch_norm: _batch_norm,
    Tensor.cuda: _same,
    Tensor.cpu: _same,
    Tensor.pin_memory: _same,
    Tensor.to: _to,
    Tensor.nonzero: positions,
    torch.nonzero: positions,
    torch.argwhere: positions,
    torch.where: where,
    Tensor.__getitem__: getitem,
    Tensor.__setitem__: setitem,
    Tensor.reshape: reshape,
    torch.reshape: reshape,
    Tensor.view_as: _shaped_as(Tensor.view),
    Tensor.reshape_as: _shaped_as(Tensor.reshape),
    Tensor.expand_as: _shaped_as(Tensor.expand),
    Tensor.type_as: _type_as,
    Tensor.split: split,
    torch.split: split,
    torch.broadcast_tensors: _broadcast,
    torch.autograd.grad: _gradient,
    Tensor.indices: sparse_indices,
    Tensor.values: sparse_values,
    torch.repeat_interleave: repeat_interleave,
    Tensor.repeat_interleave: repeat_interleave,
    Tensor.uniform_: _uniform_,
    torch.rand: _uniform,
    torch.rand_like: _draw_like(torch.rand, _uniform),
    torch.randn_like: _draw_like(torch.randn, _draw),
    torch.randint_like: _draw_like(torch.randint, _draw),
}
for _name in (
    *(
        "item",
        "tolist",
        "numpy",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__array__",
        "__contains__",
    ),
    *("__complex__", "is_nonzero", "equal", "allclose", "__format__"),
):
    SPECIAL[getattr(Tensor, _name)] = _from_guess
for _name in ("is_nonzero", "equal", "allclose"):
    SPECIAL[getattr(torch, _name)] = _from_guess
for _name in ("empty_like", "zeros_like", "ones_like", "full_like"):
    SPECIAL[getattr(torch, _name)] = _filled
for _name in ("new_empty", "new_zeros", "new_ones", "new_full", "new_tensor", "new_empty_strided", "new"):
    SPECIAL[getattr(Tensor, _name)] = _filled
for _module, _name in ((F, "grouped_mm"), (torch, "_grouped_mm")):
    if hasattr(_module, _name):
        SPECIAL[getattr(_module, _name)] = grouped_mm
for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    SPECIAL[getattr(torch, _name)] = recurrent
for _name in ("randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"):
    SPECIAL[getattr(torch, _name)] = _draw
for _name in (
    *("normal_", "bernoulli_", "random_", "exponential_", "geometric_", "cauchy_", "log_normal_"),
    *("bernoulli", "multinomial"),
):
    SPECIAL[getattr(Tensor, _name)] = _draw
for _name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"):
    SPECIAL[getattr(F, _name)] = _unknown
for _name in ("dropout", "dropout_", "feature_dropout", "alpha_dropout"):
    SPECIAL[getattr(torch, _name)] = _unknown
