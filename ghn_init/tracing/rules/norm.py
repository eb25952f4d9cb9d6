"""Normalisation layers, also written by hand: ``bn`` and ``ln``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ghn_init.tracing.flow import Flow
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import register_rule

_LOW = (torch, torch._VF, torch.ops.aten)


@register_rule(F.batch_norm)
def batch_norm(call: Call) -> Flow:
    """``batch_norm(input, running_mean, running_var, weight, bias)``."""
    return _batch_norm(call, call.arg(3, "weight"), call.arg(4, "bias"))


@register_rule(
    *torch_functions("batch_norm", "native_batch_norm", "_native_batch_norm_legit", owners=_LOW),
    *torch_functions("_native_batch_norm_legit_no_training", "cudnn_batch_norm", owners=_LOW),
)
def native_batch_norm(call: Call) -> Flow:
    """``batch_norm(input, weight, bias, running_mean, running_var, ...)``."""
    return _batch_norm(call, call.arg(1, "weight"), call.arg(2, "bias"))


def _batch_norm(call: Call, weight: Any, bias: Any) -> Flow:
    """Of activations it is ``bn``; of a parameter it is weight standardisation, part of that parameter."""
    data = call.arg(0, "input")
    return call.wire() if call.flow(data).is_param else call.emit("bn", data, weight=weight, bias=bias)


@register_rule(
    *torch_functions("layer_norm", "group_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
)
def layer_norm(call: Call) -> Flow:
    """``layer_norm(input, shape, weight, bias)``; also of groups and of root mean squares."""
    return call.emit("ln", call.arg(0, "input"), weight=call.arg(2, "weight"), bias=call.arg(3, "bias"))


@register_rule(*torch_functions("native_group_norm"), *torch_functions("instance_norm", owners=_LOW))
def native_group_norm(call: Call) -> Flow:
    """``native_group_norm(input, weight, bias, ...)``."""
    return call.emit("ln", call.arg(0, "input"), weight=call.arg(1, "weight"), bias=call.arg(2, "bias"))


@register_rule(F.instance_norm)
def instance_norm(call: Call) -> Flow:
    """``instance_norm(input, running_mean, running_var, weight, bias)``: its statistics are of one image."""
    return call.emit("ln", call.arg(0, "input"), weight=call.arg(3, "weight"), bias=call.arg(4, "bias"))


@register_rule(*torch_functions("sqrt", "rsqrt", "std", "norm", "vector_norm"))
def root(call: Call) -> Flow:
    """A root of a statistic: what a norm written by hand divides by."""
    value = call.wire()
    return Flow(
        value.sources, value.indices, value.params, kind="scale" if value.live else "", joined=value.joined
    )


@register_rule(*torch_functions("pow"))
def power(call: Call) -> Flow:
    """``x ** 0.5`` and ``x ** -0.5`` are roots."""
    return root(call) if call.arg(1, "exponent") in (0.5, -0.5) else call.wire()


@register_rule(F.normalize)
def normalize(call: Call) -> Flow:
    """Division by a norm."""
    value = call.wire()
    return Flow(
        value.sources,
        value.indices,
        value.params,
        kind="normalised" if value.live else "",
        joined=value.joined,
    )
