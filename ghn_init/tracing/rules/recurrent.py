"""Recurrent layers: a ``conv`` for each weight, in the order input, recurrent, projection."""

from __future__ import annotations

from typing import Any

from torch import fx

from ghn_init.tracing.flow import Flow, union
from ghn_init.tracing.rules.call import Call, nodes_in
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import register_rule


@register_rule(*torch_functions("lstm", "gru", "rnn_tanh", "rnn_relu"))
def recurrent(call: Call) -> Flow:
    """``lstm(input, hidden, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)``.

    With a packed sequence: ``lstm(data, batch_sizes, hidden, params, has_biases, ...)``. ``params`` holds,
    for each layer and direction, input and recurrent weights, their biases if any, and a projection if any.
    """
    values: list[Any] = list(call.node.args)
    place = next((i for i, value in enumerate(values) if i and _all_params(call, value)), None)
    if place is None:
        return call.wire()
    params = list(nodes_in(values[place]))
    layers, both = values[place + 2], bool(values[place + 5])
    directions = 2 if both else 1
    width = len(params) // (layers * directions)
    value = call.flow(values[0])
    for layer in range(layers):
        first = layer * directions * width
        branches = [
            _cell(call, value, params[first + d * width : first + (d + 1) * width], bool(values[place + 1]))
            for d in range(directions)
        ]
        value = Flow(sources=union(branch.sources for branch in branches))
    return value


@register_rule(*torch_functions("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"))
def cell(call: Call) -> Flow:
    """``lstm_cell(input, hidden, w_ih, w_hh, b_ih, b_hh)``; ``w_hh`` also reads the hidden state."""
    params = [value for value in call.node.args[2:] if isinstance(value, fx.Node)]
    return _cell(call, call.flow(call.arg(0, "input")), params, len(params) > 2, call.flow(call.arg(1, "hx")))


def _all_params(call: Call, value: Any) -> bool:
    nodes = list(nodes_in(value))
    return (
        isinstance(value, (tuple, list)) and bool(nodes) and all(call.flow(node).is_param for node in nodes)
    )


def _cell(call: Call, value: Flow, params: list[fx.Node], biased: bool, hidden: Flow | None = None) -> Flow:
    """Input weight, its bias, recurrent weight, its bias, projection."""
    flows = [call.flow(node) for node in params]
    weights = flows[:2] + flows[4 if biased else 2 :]
    biases = flows[2:4] if biased else []
    for position, weight in enumerate(weights):
        feeds = value.feeds or (0,)
        if position == 1 and hidden is not None:
            feeds = union((feeds, hidden.sources))
        shift = biases[position] if position < len(biases) else Flow()
        value = call.weighted("conv", feeds, weight, shift)
    return value
