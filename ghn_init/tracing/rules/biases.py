"""Biases that are no vectors: split over attention heads, or one row for each expert."""

from __future__ import annotations

from math import prod

from ghn_init.tracing.builder import Draft, Shape
from ghn_init.tracing.flow import Flow
from ghn_init.tracing.rules.call import Call


def is_bias_of(call: Call, value: Flow, shape: Shape) -> bool:
    """Whether a parameter of this shape, added to this value, is a bias of the layer that made the value.

    It is, if it has one element for each output of the layer (``(heads, size)`` after heads were split), or
    one row for each of the experts stacked in the layer's weight.
    """
    if len(value.sources) != 1:
        return False
    weight = _weight(call.builder.drafts[value.sources[0]])
    if weight is None or len(weight) < 2:
        return False
    return prod(shape) in (weight[0], prod(weight) // weight[0]) or _one_row_each(weight, shape)


def expert_bias(call: Call, left: Flow, right: Flow) -> Flow | None:
    """The bias rows of the chosen experts, added to those experts' product, as a ``bias`` node.

    Returns:
        What the sum carries; None if the sum is something else.
    """
    drafts = call.builder.drafts
    for value, row in ((left, right), (right, left)):
        if value.open is None or row.open is None or row.sources != (row.open,):
            continue
        weight, looked_up = _weight(drafts[value.open]), drafts[row.open]
        if weight is None or looked_up.primitive != "pos_enc" or len(looked_up.slots) != 1:
            continue
        if _one_row_each(weight, looked_up.slots[0].shape):
            name = call.builder.release(row.open)
            return call.bias(value, Flow(params=(name,)))
    return None


def _weight(draft: Draft) -> Shape | None:
    return draft.shape if draft.primitive == "conv" else None


def _one_row_each(weight: Shape, bias: Shape) -> bool:
    stacked = len(weight) == 3 and len(bias) == 2
    return stacked and weight[0] == bias[0] and bias[1] in weight[1:]
