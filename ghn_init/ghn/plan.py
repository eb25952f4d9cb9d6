"""What a GHN predicts of a graph: each slot's decoder and view, or why it keeps the model's own value."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ghn_init.errors import ConfigError
from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.heads import class_layer_nodes, classifier_nodes
from ghn_init.ghn.views import CONVOLUTIONS, View, is_position_table, is_stack, weight_view
from ghn_init.graph import ArchGraph, Node, ParamSlot

Head = Literal["auto", "predict", "keep"]
Kind = Literal["weight", "positions", "stack", "class_weight", "norm_weight", "bias", "class_bias"]


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor to predict.

    Attributes:
        name: The slot's name.
        node: Index of the node that owns it.
        shape: The tensor's shape.
        kind: How it is decoded.
        view: The tensor as ``(out, in, kh, kw)``; a vector of C elements as ``(C, 1, 1, 1)``.
        scale: Factor of the decoded values (fan-in normalisation), or None for none.
        centred: Whether each filter has zero mean.
    """

    name: str
    node: int
    shape: tuple[int, ...]
    kind: Kind
    view: View
    scale: float | None = None
    centred: bool = False

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_vector(self) -> bool:
        """Whether it is a norm's weight, a norm's bias or a plain bias outside the class layer."""
        return self.kind in ("norm_weight", "bias")


class Plan(NamedTuple):
    """What is predicted and what is not.

    Attributes:
        predicted: Name of each predicted tensor → index of the node it is decoded from.
        kept: Name of each other slot → why it keeps the model's own value.
    """

    predicted: dict[str, int]
    kept: dict[str, str]


def make_targets(
    graph: ArchGraph, config: GHNConfig, head: Head = "auto", skip: Collection[str] = ()
) -> tuple[list[Target], dict[str, str]]:
    """Targets in the order of the graph's nodes, and the slots left out with the reason.

    Raises:
        ConfigError: ``head`` is none of ``auto``, ``predict``, ``keep``.
    """
    if head not in get_args(Head):
        raise ConfigError(f"head must be one of {list(get_args(Head))}, got {head!r}")
    classifiers = classifier_nodes(graph)
    class_nodes = class_layer_nodes(graph, config.class_layer)
    targets: list[Target] = []
    kept: dict[str, str] = {}
    skipped = frozenset(skip)
    for index, node in enumerate(graph.nodes):
        for slot in node.params:
            if slot.name in skipped:
                kept[slot.name] = "left out by the caller"
                continue
            reason = _kept_classifier(slot, config, head) if index in classifiers else None
            found = reason or _target(index, node, slot, config, is_class=index in class_nodes)
            if isinstance(found, str):
                kept[slot.name] = found
            else:
                targets.append(found)
    return targets, kept


def _kept_classifier(slot: ParamSlot, config: GHNConfig, head: Head) -> str | None:
    if head == "keep":
        return "classifier, kept as asked"
    if head == "auto" and slot.shape and slot.shape[0] != config.num_classes:
        return f"classifier of {slot.shape[0]} classes; the GHN was trained on {config.num_classes}"
    return None


def _target(index: int, node: Node, slot: ParamSlot, config: GHNConfig, *, is_class: bool) -> Target | str:
    """The target of one slot, or why there is no decoder for it."""
    shape, primitive = slot.shape, node.primitive
    if slot.numel == 0:
        return "empty tensor"
    if not shape:
        return "scalar: the GHN has no decoder for it"
    wide_axes = sum(size > 1 for size in shape)
    if len(shape) == 1 or (wide_axes <= 1 and primitive not in CONVOLUTIONS):
        if primitive == "pos_enc" and len(shape) > 1:
            return "a single token: the GHN has no decoder for it"
        return _vector(index, slot, is_class=is_class)
    if primitive not in CONVOLUTIONS and primitive != "pos_enc":
        return f"no decoder for a {primitive} tensor of shape {shape}"
    if primitive == "pos_enc" and len(shape) == 2 and shape[0] > config.max_shape[0]:
        return (
            f"embedding table of {shape[0]} rows: the GHN decodes {config.max_shape[0]}, "
            "and tiling would give several rows the same vector"
        )
    return _weight(index, node, slot, config, is_class=is_class)


def _vector(index: int, slot: ParamSlot, *, is_class: bool) -> Target:
    kind: Kind = "norm_weight" if slot.role == "weight" else "class_bias" if is_class else "bias"
    return Target(slot.name, index, slot.shape, kind, (slot.numel, 1, 1, 1))


def _weight(index: int, node: Node, slot: ParamSlot, config: GHNConfig, *, is_class: bool) -> Target:
    shape = slot.shape
    view = weight_view(shape, node.primitive, node.op)
    kind: Kind = "weight"
    if is_position_table(shape, node.primitive):
        kind = "positions"
    elif is_stack(shape, node.primitive, node.op):
        kind = "stack"
    elif is_class and view[2:] == (1, 1):
        kind = "class_weight"
    scale = fan_in_scale(shape, node.primitive, node.op) if config.weight_norm else None
    centred = config.centre_weights and kind == "weight" and view[1] > 1
    return Target(slot.name, index, shape, kind, view, scale, centred)


def fan_in_scale(shape: tuple[int, ...], primitive: str, op: str = "") -> float | None:
    """Factor ``sqrt(beta / fan-in)`` of a weight (Knyazev et al., 2021, section 4.2).

    The fan-in is that of the final tensor. Beta is 2, but 1 for depthwise and for ``1 x k`` kernels, which no
    ReLU follows. Position embeddings are not scaled.
    """
    if is_position_table(shape, primitive):
        return None
    if primitive == "pos_enc" and len(shape) > 3 and shape[0] == 1 and shape[2] >= 11:
        return None
    if is_stack(shape, primitive, op):
        return (2.0 / math.prod(shape[2:])) ** 0.5
    view = weight_view(shape, primitive, op)
    before_no_relu = len(shape) > 2 and (view[1] == 1 or view[2] < view[3])
    return ((1.0 if before_no_relu else 2.0) / math.prod(shape[1:])) ** 0.5
