"""Which recorded operations take a parameter, read without the rules of the lowering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import fx

from ghn_init.tracing.recorder import Recording

Primitives = frozenset[str]


class Consumer(NamedTuple):
    """One operation on activations that takes a value computed from a parameter alone.

    Attributes:
        op: Name of the operation.
        module: Path of the module that ran it.
        allowed: Primitives that may stand for a parameter in this place; ``None`` for any.
    """

    op: str
    module: str
    allowed: Primitives | None


_ANY_CONV = frozenset({"conv", "sep_conv", "dil_conv"})
_LAYER = frozenset({"conv"})
_BIAS = frozenset({"bias"})
_TABLE = frozenset({"pos_enc"})


def consumers(recording: Recording) -> dict[str, list[Consumer]]:
    """Parameter → the operations through which it first meets activations.

    A layer that takes a parameter as its weight or bias counts too where it computes from constants (an MLP
    on a table of coordinates). A parameter whose value reaches an output or an index without meeting
    activations has one consumer that allows anything.
    """
    pure: dict[fx.Node, frozenset[str]] = {}
    found: dict[str, list[Consumer]] = {}
    for node in recording.graph.nodes:
        if node.op == "get_attr":
            known = node.target in recording.parameters
            pure[node] = frozenset({str(node.target)} if known else ())
        elif node.op == "placeholder":
            continue
        elif node.op != "output" and all(operand in pure for operand in node.all_input_nodes):
            pure[node] = frozenset().union(*(pure[operand] for operand in node.all_input_nodes))
            if _name(node) in _LAYERS:
                _note(found, node, pure, lambda consumer: consumer.allowed is not None)
        else:
            _note(found, node, pure, lambda consumer: True)
    return found


def _note(
    found: dict[str, list[Consumer]],
    node: fx.Node,
    pure: dict[fx.Node, frozenset[str]],
    counts: Callable[[Consumer], bool],
) -> None:
    for operand in node.all_input_nodes:
        consumer = _consumer(node, operand)
        for name in pure.get(operand, ()) if counts(consumer) else ():
            found.setdefault(name, []).append(consumer)


def _consumer(node: fx.Node, operand: fx.Node) -> Consumer:
    op = _name(node)
    place = _place(node, operand)
    judge = _JUDGES.get(op)
    return Consumer(op, node.meta.get("module", ""), judge(node, place) if judge else None)


def _name(node: fx.Node) -> str:
    target: Any = getattr(node.target, "overloadpacket", node.target)
    return getattr(target, "__name__", str(target)).strip("_")


def _place(node: fx.Node, operand: fx.Node) -> int | str:
    """Position or keyword of an operand; a negative position if it is inside a list."""
    for position, value in enumerate(node.args):
        if value is operand:
            return position
    for name, value in node.kwargs.items():
        if value is operand:
            return name
    return -1


def _convolution(node: fx.Node, place: int | str, positions: tuple[int, int]) -> Primitives | None:
    if place in (2, "bias"):
        return _BIAS
    if place not in (1, "weight"):
        return None

    def option(position: int, name: str) -> Any:
        return node.args[position] if len(node.args) > position else node.kwargs.get(name, 1)

    groups, dilation = option(positions[0], "groups"), option(positions[1], "dilation")
    if not isinstance(groups, int):
        return _ANY_CONV
    if groups == 1:
        return _LAYER
    spread = dilation if isinstance(dilation, (tuple, list)) else (dilation,)
    return frozenset({"dil_conv" if min(spread) > 1 else "sep_conv"})


def _direct(node: fx.Node, place: int | str) -> Primitives | None:
    return _convolution(node, place, (6, 5))


def _transposed(node: fx.Node, place: int | str) -> Primitives | None:
    return _convolution(node, place, (6, 7))


def _aten(node: fx.Node, place: int | str) -> Primitives | None:
    return _convolution(node, place, (8, 5))


def _linear(node: fx.Node, place: int | str) -> Primitives | None:
    return _BIAS if place in (2, "bias") else _LAYER if place in (1, "weight") else None


def _table(node: fx.Node, place: int | str) -> Primitives | None:
    # Rows of a table that are added to the output of chosen experts are those experts' biases.
    return _TABLE | _BIAS


def _norm(*primitives: str) -> Callable[[fx.Node, int | str], Primitives | None]:
    allowed = frozenset(primitives)
    return lambda node, place: None if place in (0, "input") else allowed


def _recurrent(node: fx.Node, place: int | str) -> Primitives | None:
    return _LAYER | _BIAS | _TABLE


def _attention(node: fx.Node, place: int | str) -> Primitives | None:
    # Learned queries may pass a norm written by hand before they meet activations.
    return _TABLE | {"ln"}


def _sum(node: fx.Node, place: int | str) -> Primitives | None:
    return _BIAS | _TABLE | {"bn", "ln"}


def _product(node: fx.Node, place: int | str) -> Primitives | None:
    return frozenset({"ln"})


_LAYERS: dict[str, Callable[[fx.Node, int | str], Primitives | None]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _direct),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "convolution": _aten,
    "linear": _linear,
    **dict.fromkeys(("embedding", "embedding_bag"), _table),
    "batch_norm": _norm("bn"),
    **dict.fromkeys(("layer_norm", "group_norm", "rms_norm"), _norm("ln")),
    "instance_norm": _norm("ln", "bn"),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _recurrent),
}
_JUDGES: dict[str, Callable[[fx.Node, int | str], Primitives | None]] = {
    **_LAYERS,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("add", "iadd", "radd", "sub", "isub", "rsub"), _sum),
    **dict.fromkeys(("mul", "imul", "rmul", "div", "truediv"), _product),
}
"""Operation → what may stand for a parameter, by its place among the operands."""
