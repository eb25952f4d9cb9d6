"""Every weight as a four-dimensional ``(out, in, kh, kw)`` one, which embedding and decoder see."""

from __future__ import annotations

import math

from ghn_init.graph import Node

View = tuple[int, int, int, int]

CONVOLUTIONS = frozenset({"conv", "sep_conv", "dil_conv"})


def weight_view(shape: tuple[int, ...], primitive: str, op: str = "") -> View:
    """``(out, in, kh, kw)`` of a tensor of any shape.

    =====================  ==========================================================================
    ``(o,)``               ``(o, 1, 1, 1)``
    ``(o, i)``             ``(o, i, 1, 1)``
    ``(1, L, C)``          ``(1, C, s, s)``, s = floor(sqrt(L)): a position embedding (not a convolution)
    ``(o, i, k)``          ``(o, i, k, 1)``: one-dimensional convolution
    ``(E, o, i)``          ``(o, i, s, ceil(E / s))``, s = ceil(sqrt(E)): stacked matrices, one a position
    ``(o, i, ..., a, b)``  ``(o, i, ... * a, b)``: leading kernel axes are folded into rows
    =====================  ==========================================================================

    Args:
        shape: The tensor's shape.
        primitive: Type of the node that owns it.
        op: Recorded operation; tells a one-dimensional convolution from stacked matrices.
    """
    if len(shape) < 3:
        out, into = (*shape, 1, 1)[:2]
        return out, into, 1, 1
    if len(shape) > 3:
        return shape[0], shape[1], math.prod(shape[2:-1]), shape[-1]
    if is_position_table(shape, primitive):
        side = math.isqrt(shape[1])
        return 1, shape[2], side, side
    if is_stack(shape, primitive, op):
        side = math.ceil(math.sqrt(shape[0]))
        return shape[1], shape[2], side, math.ceil(shape[0] / side)
    return shape[0], shape[1], shape[2], 1


def node_view(node: Node) -> View | None:
    """What the shape embedding sees of a node; None for a node without a shape."""
    return None if node.shape is None else weight_view(node.shape, node.primitive, node.op)


def is_position_table(shape: tuple[int, ...], primitive: str) -> bool:
    """Whether a tensor is ``(1, L, C)``: one vector for each of L positions."""
    return primitive not in CONVOLUTIONS and len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > 1


def is_stack(shape: tuple[int, ...], primitive: str, op: str) -> bool:
    """Whether a tensor is ``(E, o, i)``: stacked matrices, and not a one-dimensional convolution's kernel."""
    return len(shape) == 3 and primitive == "conv" and not op.startswith("conv")
