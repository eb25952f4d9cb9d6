"""Operations inside ``torch.func`` transforms (``vmap``), and ``flex_attention`` with its score functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]

from ghn_init.tracing.values import Binding, bind, binding_of, map_tensors, storage_key, tensors_in

if TYPE_CHECKING:
    from ghn_init.tracing.mode import Recorder


def transforming() -> bool:
    """Whether a ``torch.func`` transform is running."""
    return _functorch.peek_interpreter_stack() is not None


@contextmanager
def transforms_end() -> Iterator[None]:
    """Transforms that were begun in the block and run at its end, as where one failed, are ended."""
    depth = _functorch.get_dynamic_layer_stack_depth()
    try:
        yield
    finally:
        _functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)


def call_inside(
    recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run an operation inside a transform, and emit its node on the tensors that the transform wraps."""
    if func is F.linear and len(args) == 3 and args[2] is not None and _batching():
        # As it is computed there: batching adds the bias in a step of its own.
        product = call_inside(recorder, func, args[:2], {})
        return call_inside(recorder, torch.add, (product, args[2]), {})
    args, kwargs = _without_values(recorder, (args, kwargs))
    result = func(*args, **kwargs)
    outputs = [_inner(tensor) for tensor in tensors_in(result)]
    if any(recorder.stand_ins.made(tensor) and binding_of(tensor) is None for tensor in outputs):
        recorder.time += 1
        inner_args, inner_kwargs = map_tensors((args, kwargs), _inner)
        node = recorder.emit(func, recorder.nodes_of(inner_args), recorder.nodes_of(inner_kwargs))
        node.meta.update(shape=tuple(outputs[0].shape), dtype=outputs[0].dtype)
        for tensor in outputs:
            bind(tensor, Binding(node, recorder.time, known=False))
            recorder.inside[storage_key(tensor)] = tensor
    return result


def _without_values(recorder: Recorder, operands: Any) -> Any:
    """The operands, those with values as stand-ins where they meet others without."""
    inner = [_inner(tensor) for tensor in tensors_in(operands)]
    if len({recorder.stand_ins.made(tensor) for tensor in inner}) < 2:
        return operands

    def stand_in(tensor: Tensor) -> Tensor:
        if _functorch.is_batchedtensor(tensor):
            inside = stand_in(_functorch.get_unwrapped(tensor))
            level = _functorch.maybe_get_level(tensor)
            return _functorch._add_batch_dim(inside, _functorch.maybe_get_bdim(tensor), level)
        if _functorch.is_functorch_wrapped_tensor(tensor) or recorder.stand_ins.made(tensor):
            return tensor
        link = recorder.link(tensor)
        twin = recorder.stand_ins.like(tensor)
        bind(twin, Binding(link.node, link.time, known=False))
        return twin

    return map_tensors(operands, stand_in)


def _batching() -> bool:
    """Whether the innermost transform is ``vmap``."""
    return _functorch.peek_interpreter_stack().key() == _functorch.TransformType.Vmap


def _inner(tensor: Tensor) -> Tensor:
    """The tensor under every wrapper of a transform."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def flex_attention(recorder: Recorder, operator: Any, args: tuple[Any, ...]) -> Any:
    """Record flexible attention as scores, the user's score function, softmax and values.

    Args:
        recorder: The active recorder.
        operator: The higher-order operator.
        args: Its arguments: query ``(B, H, L, E)``, key, value ``(B, H', S, E)``, score
            function, block mask, scale, ...

    Returns:
        The output ``(B, H, L, E)`` and the operator's statistics ``(B, H, L)``: one, from torch 2.9 on two.
    """
    query, key, value, score_mod, _, scale = args[:6]
    with recorder:
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = torch.matmul(query * scale, key.transpose(-2, -1))
        sizes = scores.shape
        places = [
            torch.arange(size).view([size if axis == i else 1 for i in range(4)])
            for axis, size in enumerate(sizes)
        ]
        scores = score_mod(scores, *places)
        output = torch.matmul(torch.softmax(scores, -1), value)
        statistic = torch.logsumexp(scores, -1)
    outputs = get_args(inspect.signature(type(operator).__call__).return_annotation)
    return output, *[statistic] * (len(outputs) - 1)
