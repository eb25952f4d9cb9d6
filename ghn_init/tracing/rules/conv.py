"""Convolutions, linear layers and products with a parameter: ``conv``, ``sep_conv``, ``dil_conv``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ghn_init.tracing.flow import Flow, merge, union
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import register_rule

_ATEN = (torch.ops.aten,)


def _grouped(groups: Any, dilation: Any) -> str:
    if not isinstance(groups, int) or groups <= 1:
        return "conv"
    spread = dilation if isinstance(dilation, (tuple, list)) else (dilation,)
    return "dil_conv" if min(spread) > 1 else "sep_conv"


def _emit_conv(call: Call, groups: Any, dilation: Any) -> Flow:
    weight, bias = call.arg(1, "weight"), call.arg(2, "bias")
    return call.emit(_grouped(groups, dilation), call.arg(0, "input"), weight=weight, bias=bias)


@register_rule(*torch_functions("conv1d", "conv2d", "conv3d"))
def convolution(call: Call) -> Flow:
    """``conv(input, weight, bias, stride, padding, dilation, groups)``; grouped ones are ``sep_conv``."""
    return _emit_conv(call, call.arg(6, "groups", 1), call.arg(5, "dilation", 1))


@register_rule(*torch_functions("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
def transposed_convolution(call: Call) -> Flow:
    """``conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation)``."""
    return _emit_conv(call, call.arg(6, "groups", 1), call.arg(7, "dilation", 1))


@register_rule(*torch_functions("convolution", "_convolution", owners=_ATEN))
def aten_convolution(call: Call) -> Flow:
    """``convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    return _emit_conv(call, call.arg(8, "groups", 1), call.arg(5, "dilation", 1))


@register_rule("torchvision::deform_conv2d")
def deformable_convolution(call: Call) -> Flow:
    """``deform_conv2d(input, weight, offset, mask, bias, ...)``; it also reads its offsets and its mask."""
    data = call.arg(0, "input"), call.arg(2, "offset"), call.arg(3, "mask")
    bias, use_mask, groups = call.arg(4, "bias"), call.arg(13, "use_mask", True), call.arg(11, "groups", 1)
    data = data if use_mask else data[:2]
    return call.emit(
        _grouped(groups, call.arg(9, "dilation_h", 1)), *data, weight=call.arg(1, "weight"), bias=bias
    )


@register_rule(*torch_functions("linear"))
def linear(call: Call) -> Flow:
    """``linear(input, weight, bias)``."""
    bias = call.arg(2, "bias")
    data, weight = call.arg(0, "input"), call.arg(1, "weight")
    if bias is None and not call.convention.rewires:
        return _hang(call, data, weight)
    return call.emit("conv", data, weight=weight, bias=bias)


@register_rule(*torch_functions("bilinear"))
def bilinear(call: Call) -> Flow:
    """``bilinear(input1, input2, weight, bias)``."""
    data = call.arg(0, "input1"), call.arg(1, "input2")
    return call.emit("conv", *data, weight=call.arg(2, "weight"), bias=call.arg(3, "bias"))


@register_rule(*torch_functions("addmm", "baddbmm", "addmv"))
def addmm(call: Call) -> Flow:
    """``addmm(input, mat1, mat2)``: a product with a bias."""
    shift = call.arg(0, "input")
    value = contract(call, call.arg(1, "mat1"), call.arg(2, "mat2"))
    held = call.flow(shift)
    if not value.live:
        return merge((value, held))
    if held.is_param:
        return call.bias(value, held)
    return Flow(sources=union((value.sources, held.sources)))


@register_rule(*torch_functions("matmul", "mm", "bmm", "mv"))
def matmul(call: Call) -> Flow:
    """A product of two tensors."""
    return contract(call, call.arg(0, "input"), call.arg(1, "other", call.arg(1, "mat2")))


@register_rule("aten::_grouped_mm", *torch_functions("_grouped_mm", "grouped_mm"))
def grouped_matmul(call: Call) -> Flow:
    """``grouped_mm(input, weights, offsets)``: each expert's product with its rows."""
    return contract(call, call.arg(0, "input"), call.arg(1, "mat2"))


@register_rule(*torch_functions("einsum", "tensordot"))
def einsum(call: Call) -> Flow:
    """A contraction of any number of tensors."""
    operands = [arg for arg in call.node.args if isinstance(arg, (fx.Node, tuple, list))]
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    return contract(call, *(operand for operand in operands if isinstance(operand, fx.Node)))


def contract(call: Call, *operands: Any) -> Flow:
    """A product that sums over a shared axis.

    With a parameter it is a ``conv``, with several one after the other in the order of the operands; of
    attention weights and values it is ``msa``; else it is wire.
    """
    flows = [call.flow(operand) for operand in operands]
    weights = [operand for operand, flow in zip(operands, flows, strict=True) if flow.is_param]
    data = [operand for operand, flow in zip(operands, flows, strict=True) if not flow.is_param]
    if call.node in call.ahead.attends:
        return call.attention(*operands)
    if not any(call.flow(value).feeds for value in data):
        return replace(merge(flows), kind="product" if len(weights) > 1 else "")
    if not weights:
        return merge(flows)
    if len(data) == 1 and not call.convention.rewires:
        value = _hang(call, data[0], weights[0])
    else:
        value = call.emit("conv", *data, weight=weights[0])
    for weight in weights[1:]:
        value = call.weighted("conv", value.feeds, call.flow(weight))
    return value


def _hang(call: Call, data: Any, weight: Any) -> Flow:
    """A layer without bias as the published GHNs' graphs have it; see ``Convention.rewires``."""
    value, held = call.flow(data), call.flow(weight)
    drafts = call.builder.drafts
    if (
        not held.is_param
        or not value.live
        or all(drafts[source].primitive == "ln" for source in value.sources)
    ):
        return call.emit("conv", data, weight=weight)
    result = call.weighted("conv", (0,), held)
    for index in result.sources:
        drafts[index].hangs = True
    return Flow(sources=union((value.sources, result.sources)))
