"""Torch functions that select elements of a tensor, also by values that nobody computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ghn_init.tracing.values import map_tensors, tensors_in

if TYPE_CHECKING:
    from ghn_init.tracing.mode import Recorder


def positions(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``nonzero`` and its kin: where nobody computed the values, every position counts."""
    if recorder.link(args[0]).known:
        return recorder.call(func, args, kwargs)
    recorder.guesses.positions = True
    every = torch.ones(args[0].shape, dtype=torch.bool, device="cpu")
    return recorder.call_known(func, args, kwargs, lambda: func(every, *args[1:], **kwargs))


def where(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.where``: of a condition alone, its positions; else one of two values for each element."""
    if len(args) + len(kwargs) == 1:
        return positions(recorder, func, args or tuple(kwargs.values()), {})

    def run(condition: Tensor, *values: Any, **more: Any) -> Tensor:
        # Meta tensors refuse masks of uint8, which CPU tensors take.
        return func(condition.bool() if condition.dtype is torch.uint8 else condition, *values, **more)

    return recorder.call(func, args, kwargs, run=run if args else None)


def getitem(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Indexing: a mask or a slice bound whose value nobody computed selects everything."""
    return recorder.call(func, args, kwargs, run=_indexed(recorder, func))


def setitem(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Writing to a part: where sizes were guessed, those of the part and of the values may differ."""
    write = _indexed(recorder, func)

    def run(tensor: Tensor, index: Any, value: Any) -> None:
        try:
            write(tensor, index, value)
        except RuntimeError:
            if not (recorder.guesses.where and recorder.stand_ins.made(tensor)):
                raise
            tensor.zero_()

    return recorder.call(func, args, kwargs, run=run)


def reshape(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a mask whose values nobody computed selects has the shape that is asked of it."""
    if not recorder.guesses.selected:
        return recorder.call(func, args, kwargs)

    def run(tensor: Tensor, *given: Any, **more: Any) -> Tensor:
        shape = given[0] if given and isinstance(given[0], (tuple, list)) else given or more["shape"]
        try:
            return func(tensor, *given, **more)
        except RuntimeError:
            if min(shape) < 0 or not recorder.stand_ins.made(tensor):
                raise
            return tensor.new_empty(shape)

    return recorder.call(func, args, kwargs, run=run)


def _indexed(recorder: Recorder, func: Any) -> Any:
    """``func(tensor, index, ...)`` that takes indices whose values nobody computed."""

    def run(tensor: Tensor, index: Any, *value: Any) -> Any:
        def whole(part: Tensor) -> Tensor:
            if part.dtype is torch.bool and recorder.stand_ins.made(part):
                recorder.guesses.selected = True
                return torch.ones(part.shape, dtype=torch.bool, device="cpu")
            return part

        def bounded(part: Any) -> Any:
            unknown = isinstance(part, slice) and any(
                recorder.stand_ins.made(end) for end in tensors_in(part)
            )
            return slice(None) if unknown else part

        index = tuple(map(bounded, index)) if isinstance(index, tuple) else bounded(index)
        index = map_tensors(index, whole)
        if isinstance(index, Tensor) and not value and recorder.stand_ins.made(tensor):
            # Looked up by the positions, a mask would take 8 bytes per dimension of each element it selects.
            if index.dtype is torch.bool and index.shape == tensor.shape[: index.dim()]:
                return tensor.new_empty(int(index.sum()), *tensor.shape[index.dim() :])
            # Positions that were all told may have been counted over one class more than there are weights.
            if recorder.guesses.positions and index.dim() == 0 and not recorder.stand_ins.made(index):
                index = index % tensor.shape[0]
        return func(tensor, index, *value)

    return run
