"""Torch functions whose sizes follow from values that nobody computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ghn_init.tracing.values import map_tensors

if TYPE_CHECKING:
    from ghn_init.tracing.mode import Recorder


def grouped_mm(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Grouped matrix product, whose own shape function refuses float32."""

    def run(a: Tensor, b: Tensor, *rest: Any, offs: Tensor | None = None, **more: Any) -> Tensor:
        offs = rest[0] if rest and isinstance(rest[0], Tensor) else offs
        size: tuple[int, ...]
        if a.dim() == 2 and b.dim() == 2:
            size = (0 if offs is None else offs.shape[0], a.shape[0], b.shape[1])
        elif a.dim() == 3 and b.dim() == 3:
            size = (a.shape[0], a.shape[1], b.shape[2])
        else:
            size = (a.shape[-2], b.shape[-1])
        return a.new_empty(size)

    return recorder.call(func, args, kwargs, run=run)


def split(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Parts whose sizes were guessed (tokens by expert) and do not add up become parts of about one size."""
    if len(args) > 1 and isinstance(args[1], (list, tuple)) and recorder.guesses.where:
        total = args[0].shape[args[2] if len(args) > 2 else kwargs.get("dim", 0)]
        if (count := len(args[1])) and sum(args[1]) != total:
            args = (args[0], [(total + part) // count for part in range(count)], *args[2:])
    return recorder.call(func, args, kwargs)


def repeat_interleave(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Repeats that nobody computed are one each."""

    def run(*given: Any, **options: Any) -> Any:
        def once(tensor: Tensor) -> Any:
            unknown = recorder.stand_ins.made(tensor) and not tensor.is_floating_point()
            return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu") if unknown else tensor

        if len(given) + ("repeats" in options) == 1:
            return func(*map(once, given), **map_tensors(options, once))
        values, *rest = given
        repeats = map_tensors(rest[0] if rest else options.pop("repeats"), once)
        if isinstance(repeats, Tensor) and repeats.numel() > 1 and recorder.stand_ins.made(values):
            dim = rest[1] if len(rest) > 1 else options.get("dim")
            values = values.flatten() if dim is None else values
            shape = list(values.shape)
            shape[dim or 0] = int(repeats.sum())
            return values.new_empty(shape)
        return func(values, repeats, *rest[1:], **options)

    return recorder.call(func, args, kwargs, run=run)


def recurrent(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LSTM, GRU and RNN, whose own shape functions loop over the steps."""

    def run(input: Tensor, second: Any, third: Any, *rest: Any) -> Any:
        # Packed: (data, batch_sizes, state, weights, ...); else (input, state, weights, ...).
        packed = isinstance(third, Tensor) or (
            isinstance(third, (tuple, list)) and isinstance(second, Tensor)
        )
        packed = packed and second.dim() == 1
        state, bidirectional = (third, rest[-1]) if packed else (second, rest[-2])
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        width = states[0].shape[-1] * (2 if bidirectional else 1)
        output = input.new_empty(*input.shape[:-1], width)
        return (output, *(item.new_empty(item.shape) for item in states))

    return recorder.call(func, args, kwargs, run=run)


def sparse_indices(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Places of a sparse tensor's values: of one that nobody computed, every place."""
    tensor = args[0]
    if recorder.link(tensor).known or tensor.layout is not torch.strided:
        return recorder.call(func, args, kwargs)
    with recorder:
        return torch.nonzero(tensor).t()


def sparse_values(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A sparse tensor's values, one for each of its places."""
    tensor = args[0]
    if recorder.link(tensor).known or tensor.layout is not torch.strided:
        return recorder.call(func, args, kwargs)
    with recorder:
        return tensor.flatten()
