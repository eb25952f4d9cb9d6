"""Sums, products and concatenations: ``sum``, ``cse``, ``concat``; what a parameter does in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ghn_init.tracing.builder import Shape
from ghn_init.tracing.flow import Flow, merge, union
from ghn_init.tracing.rules.biases import expert_bias, is_bias_of
from ghn_init.tracing.rules.call import Call, nodes_in
from ghn_init.tracing.rules.functions import (
    ADD,
    CONCATENATE,
    DIVIDE,
    MULTIPLY,
    SUBTRACT,
    torch_functions,
)
from ghn_init.tracing.rules.registry import register_rule


@register_rule(*ADD)
def add(call: Call) -> Flow:
    """Sum of two values."""
    return add_flows(call, *_operands(call))


@register_rule(*SUBTRACT)
def subtract(call: Call) -> Flow:
    """Difference of two values: a sum of branches too, if it joins two."""
    left, right = _operands(call)
    if left.live and right.live and not call.convention.joins:
        return merge((left, right))
    return add_flows(call, left, right)


@register_rule(*MULTIPLY)
def multiply(call: Call) -> Flow:
    """Product of two values."""
    return multiply_flows(call, *_operands(call))


@register_rule(*DIVIDE, *torch_functions("rdiv", "rtruediv"))
def divide(call: Call) -> Flow:
    """Quotient; by a root of a statistic it normalises."""
    left, right = _operands(call)
    if left.live and right.live:
        return Flow(sources=union((left.sources, right.sources)), kind=_quotient_kind(left, right))
    if left.live and right.is_param:
        call.builder.keep(right.params, _scale_reason(call))
    if right.live and left.is_param:
        call.builder.keep(left.params, _scale_reason(call))
    if left.live or right.live:
        return left if left.live else right
    return merge((left, right))


@register_rule(*torch_functions("addcmul"))
def addcmul(call: Call) -> Flow:
    """``input + tensor1 * tensor2``."""
    values = [call.flow(call.arg(i, name)) for i, name in enumerate(("input", "tensor1", "tensor2"))]
    return add_flows(call, values[0], multiply_flows(call, values[1], values[2]))


@register_rule(*CONCATENATE)
def concatenate(call: Call) -> Flow:
    """Concatenation; a parameter among activations (class, mask or register tokens) keeps its value."""
    return _concatenate(call)


@register_rule(*torch_functions("stack"))
def stack(call: Call) -> Flow:
    """Concatenation along a new axis."""
    return _concatenate(call) if call.convention.joins else call.wire()


@register_rule(*torch_functions("clamp", "clamp_min", "clamp_max", "maximum", "reciprocal"))
def bound(call: Call) -> Flow:
    """Bounds on a root of a statistic leave it one; a learned bound of activations keeps its value."""
    result = call.wire(f"bounds activations ({call.where}), as a learned threshold does")
    kinds = {call.flow(node).kind for node in nodes_in(call.node.args)}
    return replace(result, kind="scale") if "scale" in kinds and result.live else result


@register_rule(*torch_functions("prelu", "_prelu_kernel"))
def slope(call: Call) -> Flow:
    """``prelu(input, weight)``: a learned slope keeps its start."""
    return call.wire(f"slope of an activation ({call.where})")


@register_rule(
    *torch_functions("where", "setitem", "index_put", "_index_put_impl", "masked_scatter", "masked_fill"),
    *torch_functions("index_copy", "index_fill", "scatter", "slice_scatter", "select_scatter"),
)
def replaced(call: Call) -> Flow:
    """Writes into activations; a parameter that is written there is a mask token or the like."""
    return call.wire(f"put in place of activations ({call.where}), as a mask token is")


def add_flows(call: Call, left: Flow, right: Flow) -> Flow:
    """``sum`` of two branches, or what adding a parameter to a branch means."""
    if left.live and right.live:
        if (biased := expert_bias(call, left, right)) is not None:
            return biased
        joint = _one_attention(call, union((left.sources, right.sources)))
        if len(joint) < 2 or call.node in call.ahead.scores:
            kind = "scale" if "scale" in (left.kind, right.kind) else ""
            return Flow(sources=joint, kind=kind)
        return Flow(sources=(call.builder.node("sum", joint, None, call.op, call.module),))
    if not left.live and not right.live:
        value = merge((left, right))
        offset = value.params and not (left.params and right.params) and not value.kind
        return replace(value, kind="offset") if offset else value
    value, other = (left, right) if left.live else (right, left)
    return _shift(call, value, other) if other.is_param else value


def _one_attention(call: Call, joint: tuple[int, ...]) -> tuple[int, ...]:
    """Two attentions of the same values, added, are one whose weights are added (differential attention)."""
    if len(joint) == 2:
        first, second = (call.builder.drafts[index] for index in joint)
        if first.primitive == second.primitive == "msa" and first.preds == second.preds:
            return joint[:1]
    return joint


def multiply_flows(call: Call, left: Flow, right: Flow) -> Flow:
    """``cse`` of two branches, or what multiplying a branch by a parameter means."""
    if left.live and right.live:
        return _gate(call, left, right)
    if not left.live and not right.live:
        return _scaled_choice(call, left, right) or merge((left, right))
    value, other = (left, right) if left.live else (right, left)
    if not other.is_param:
        return value
    names = call.builder.main(other)
    if value.kind == "normalised" and call.builder.numel(names[0]) > 1:
        return _norm_weight(call, value, other, names[0])
    call.builder.keep(other.params, _scale_reason(call))
    return Flow(sources=value.sources, kind=value.kind)


def _scaled_choice(call: Call, left: Flow, right: Flow) -> Flow | None:
    """What whole numbers or truth values carry, such as spikes, if a parameter of one number scales them."""
    value, scale = (left, right) if right.params else (right, left)
    if value.params or not value.indices or any(call.builder.numel(name) > 1 for name in scale.params):
        return None
    call.builder.keep(scale.params, _scale_reason(call))
    return value


def _norm_weight(call: Call, value: Flow, weight: Flow, name: str) -> Flow:
    """A weight behind a division by a statistic, or behind a norm that was called without one."""
    builder = call.builder
    if weight.kind == "offset":
        return call.offset_norm("ln", value.sources, weight)
    norm = builder.drafts[value.open] if value.open is not None else None
    if norm is not None and not norm.slots and name not in builder.owner:
        builder.own(value.sources[0], name, "weight")
        norm.shape = builder.parameters[name]
        return Flow(sources=value.sources, open=value.open)
    node = builder.owning("ln", {"weight": name}, value.sources, call.op, call.module)
    return Flow(sources=(node,), open=node)


def _gate(call: Call, left: Flow, right: Flow) -> Flow:
    joint = union((left.sources, right.sources))
    if "scale" in (left.kind, right.kind) and left.kind != right.kind:
        return Flow(sources=joint, kind="normalised")
    if len(joint) < 2 or left.sources == right.sources:
        return Flow(sources=joint)
    return Flow(sources=(call.builder.node("cse", joint, None, call.op, call.module),))


def _quotient_kind(left: Flow, right: Flow) -> Any:
    if left.kind == "scale":
        return "scale"
    return "normalised" if right.kind == "scale" else ""


def _shift(call: Call, value: Flow, other: Flow) -> Flow:
    """A parameter added to activations: bias of the layer before, position embedding, or score bias."""
    builder = call.builder
    if call.node in call.ahead.scores:
        builder.keep(other.params, score_reason(call))
        return value
    names = [name for name in other.params if builder.numel(name) > 1]
    single = [name for name in other.params if name not in names]
    builder.keep(single, f"a single number added to activations ({call.where})")
    if not names:
        return value
    shapes = [builder.parameters[name] for name in names]
    draft = builder.drafts[value.open] if value.open is not None else None
    if (
        draft is not None
        and draft.primitive in ("bn", "ln")
        and len(draft.slots) == 1
        and _is_vector(shapes[0])
    ):
        builder.own(value.sources[0], names[0], "bias")
        return Flow(sources=value.sources)
    if all(_is_vector(shape) or is_bias_of(call, value, shape) for shape in shapes):
        return call.bias(value, Flow(params=tuple(names)))
    builder.keep(names, "part of how a position embedding is computed")
    nodes = tuple(
        builder.owning("pos_enc", {"weight": name}, (), call.op, call.module)
        for name, shape in zip(names, shapes, strict=True)
        if not _is_vector(shape)
    )
    joint = union((value.sources, *((node,) for node in nodes)))
    return Flow(sources=(builder.node("sum", joint, None, call.op, call.module),))


def score_reason(call: Call) -> str:
    """Why a parameter among attention scores keeps its start."""
    return f"term of attention scores ({call.where}), as a relative position bias or a sink is"


def _is_vector(shape: Shape) -> bool:
    """Whether at most one axis is longer than 1."""
    return sum(size > 1 for size in shape) <= 1


def _scale_reason(call: Call) -> str:
    return f"scales activations ({call.where}), as a layer scale, gate or temperature does"


def _concatenate(call: Call) -> Flow:
    flows = [call.flow(node) for node in nodes_in((call.node.args, call.node.kwargs))]
    joint = union(flow.sources for flow in flows)
    if not joint:
        value = merge(flows)
        return replace(value, joined=len(value.params) > 1)
    for flow in flows:
        if flow.is_param and call.node in call.ahead.scores:
            call.builder.keep(flow.params, score_reason(call))
        elif flow.is_param:
            call.builder.keep(
                flow.params, f"put beside activations ({call.where}), as a class or register token is"
            )
    if len(joint) < 2 or sum(flow.live for flow in flows) < 2:
        return Flow(sources=joint)
    return Flow(sources=(call.builder.node("concat", joint, None, call.op, call.module),))


def _operands(call: Call) -> tuple[Flow, Flow]:
    return call.flow(call.arg(0, "input", call.arg(0, "self"))), call.flow(call.arg(1, "other"))
