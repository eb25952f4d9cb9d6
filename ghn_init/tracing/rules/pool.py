"""Pooling: ``max_pool``, ``avg_pool`` and ``glob_avg``."""

from __future__ import annotations

from typing import Any

from ghn_init.tracing.builder import Shape
from ghn_init.tracing.flow import Flow
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.functions import POOL_TO_POINT, torch_functions
from ghn_init.tracing.rules.registry import register_rule


def _window(kernel: Any) -> Shape | None:
    """``(1, 1, kh, kw)`` of a kernel size; one axis gets width 1, of three the last two count."""
    if isinstance(kernel, int):
        return (1, 1, kernel, kernel)
    if not isinstance(kernel, (tuple, list)) or not all(isinstance(size, int) for size in kernel):
        return None
    sizes = (*kernel, kernel[0]) if len(kernel) == 1 else kernel[-2:]
    return (1, 1, *sizes)


@register_rule(
    *torch_functions("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices"),
    *torch_functions("max_pool2d_with_indices", "max_pool3d_with_indices"),
)
def max_pool(call: Call) -> Flow:
    """``max_pool(input, kernel_size, ...)``."""
    return _pool(call, "max_pool", _window(call.arg(1, "kernel_size")))


@register_rule(*torch_functions("avg_pool1d", "avg_pool2d", "avg_pool3d"))
def avg_pool(call: Call) -> Flow:
    """``avg_pool(input, kernel_size, ...)``."""
    return _pool(call, "avg_pool", _window(call.arg(1, "kernel_size")))


@register_rule(*torch_functions("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"))
def adaptive_max_pool(call: Call) -> Flow:
    """Max pooling to a given size; it has no kernel size of its own."""
    return _pool(call, "max_pool", None)


@register_rule(*POOL_TO_POINT)
def mean(call: Call) -> Flow:
    """Mean over axes and adaptive average pooling.

    A statistic of a norm and the squeeze of a gate are part of that norm or gate: wire.
    """
    shape = call.shape(call.node)
    if call.node in call.ahead.folded or shape == ():
        return call.wire()
    return _pool(call, "glob_avg", None)


def _pool(call: Call, primitive: str, window: Shape | None) -> Flow:
    data = call.arg(0, "input", call.arg(0, "self"))
    return call.emit(primitive, data, shape=window) if call.flow(data).live else call.wire()
