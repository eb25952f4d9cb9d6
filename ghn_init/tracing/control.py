"""Control flow that torch keeps as operators over functions: ``cond``, ``while_loop``, ``scan``, ``map``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ghn_init.tracing.transforms import flex_attention

if TYPE_CHECKING:
    from ghn_init.tracing.mode import Recorder

_MOST_TURNS = 4096


def _known(recorder: Recorder, value: Any) -> bool:
    return not isinstance(value, Tensor) or recorder.link(value).known


def _cond(
    recorder: Recorder, choice: Any, true: Callable[..., Any], false: Callable[..., Any], operands: Any
) -> Any:
    """The branch that a known value chooses; else both, and a choice between their results."""
    if _known(recorder, choice):
        return (true if choice else false)(*operands)
    first, spec = pytree.tree_flatten(true(*operands))
    second, _ = pytree.tree_flatten(false(*operands))
    chosen = [
        torch.where(choice, one, other) if isinstance(one, Tensor) else one
        for one, other in zip(first, second, strict=True)
    ]
    return pytree.tree_unflatten(chosen, spec)


def _while_loop(
    recorder: Recorder, more: Callable[..., Any], body: Callable[..., Any], carried: Any, further: Any = ()
) -> tuple[Any, ...]:
    """As many turns as known values say; where they depend on the input, one."""
    carried = tuple(carried)
    for _ in range(_MOST_TURNS):
        again = more(*carried, *further)
        known = _known(recorder, again)
        if known and not again:
            break
        carried = tuple(body(*carried, *further))
        if not known:
            break
    return carried


def _scan(
    recorder: Recorder, combine: Callable[..., Any], init: Sequence[Any], xs: Sequence[Any], further: Any = ()
) -> tuple[Any, ...]:
    """Every step, with the results of all steps stacked behind what the last one carries."""
    carried: list[Any] = list(init)
    rows: list[list[Any]] = []
    for step in range(xs[0].shape[0]):
        results = pytree.tree_leaves(combine(*carried, *(x[step] for x in xs), *further))
        carried = results[: len(carried)]
        rows.append(results[len(carried) :])
    return (*carried, *(torch.stack(column) for column in zip(*rows, strict=True)))


def _map(
    recorder: Recorder, function: Callable[..., Any], xs: Sequence[Any], further: Any = (), **hints: Any
) -> Any:
    """One step stands for all: none reads another."""
    count = xs[0].shape[0]
    results = function(*(x[0] for x in xs), *further)
    return pytree.tree_map_only(Tensor, lambda row: row.expand(count, *row.shape), results)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
}


def call_operator(
    recorder: Recorder,
    operator: torch._ops.HigherOrderOperator,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Record what an operator over functions computes: what the functions call, in place of the operator.

    Args:
        recorder: The active recorder.
        operator: The operator.
        args: Its arguments, functions among them.
        kwargs: Its keyword arguments.
    """
    if operator.__name__ == "flex_attention":
        return flex_attention(recorder, operator, args)
    with recorder:
        return _OPERATORS[operator.__name__](recorder, *args, **kwargs)


def is_control(func: Any) -> TypeGuard[torch._ops.HigherOrderOperator]:
    """Whether a function is an operator over functions that :func:`call_operator` reads."""
    return isinstance(func, torch._ops.HigherOrderOperator) and (
        func.__name__ in _OPERATORS or func.__name__ == "flex_attention"
    )
