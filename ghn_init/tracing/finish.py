"""The last steps of lowering: dead ends go, canonical forms are taken, indices are closed up."""

from __future__ import annotations

from collections.abc import Mapping

from ghn_init.graph import ArchGraph, Node
from ghn_init.tracing.builder import INPUT, Draft, GraphBuilder
from ghn_init.tracing.conventions import Convention

_NOT_USED = "not used by this forward"
_DEAD_END = "its result reaches no output"
_CHOOSES = "its result only chooses among values (indices, masks)"


def finish(
    builder: GraphBuilder,
    returned: tuple[int, ...],
    convention: Convention,
    tied: Mapping[str, str],
    name: str,
) -> ArchGraph:
    """Build the graph from what was collected.

    Args:
        builder: Drafts in topological order.
        returned: Drafts that reach the model's outputs through wire.
        convention: How edges are drawn.
        tied: Alias → canonical name.
        name: What was recorded, for people.
    """
    drafts = builder.drafts
    if not convention.rewires:
        attach_hanging(drafts)
    order, returned = pool_before_classifier(drafts, returned)
    if not convention.rewires:
        order = by_depth(drafts, order)
    alive = _reaching(drafts, returned)
    order = [index for index in order if index in alive or index == INPUT]
    place = {index: new for new, index in enumerate(order)}
    nodes = tuple(_node(drafts[index]) for index in order)
    edges = [(place[p], place[index]) for index in order for p in drafts[index].preds]
    owned = {slot.name for node in nodes for slot in node.params}
    choosing = _reaching(drafts, tuple(builder.choosing))
    unreached = {
        name: _why_unreached(name, builder, choosing) for name in builder.parameters if name not in owned
    }
    outputs = tuple(place[index] for index in last_layers(drafts, returned))
    return ArchGraph(nodes, edges, outputs, unreached, tied, name)


def _why_unreached(name: str, builder: GraphBuilder, choosing: set[int]) -> str:
    if name not in builder.owner:
        return builder.kept.get(name, _NOT_USED)
    return _CHOOSES if builder.owner[name] in choosing else _DEAD_END


def last_layers(drafts: list[Draft], returned: tuple[int, ...]) -> tuple[int, ...]:
    """Of the drafts that reach the outputs, those after which no layer comes.

    What a layer that hangs off the input computes is returned together with the data that passes it by.
    """
    return tuple(index for index in returned if drafts[index].hangs) or returned


def pool_before_classifier(
    drafts: list[Draft], returned: tuple[int, ...]
) -> tuple[list[int], tuple[int, ...]]:
    """Put a global average of class maps before the 1x1 convolution that makes them.

    The two commute up to the activation between them, and so the classifier is the last layer of the graph,
    as in other networks (Knyazev et al., 2023, draw SqueezeNet like this).

    Returns:
        The order of the drafts, and those that reach the outputs.
    """
    order = list(range(len(drafts)))
    if len(returned) != 1 or drafts[returned[0]].primitive != "glob_avg":
        return order, returned
    pool = returned[0]
    layer = _layer_before(drafts, pool)
    if layer is None:
        return order, returned
    first, last = layer[0], layer[-1]
    drafts[pool].preds, drafts[first].preds = drafts[first].preds, {pool}
    order.remove(pool)
    order.insert(order.index(first), pool)
    return order, (last,)


def _layer_before(drafts: list[Draft], pool: int) -> list[int] | None:
    """The 1x1 convolution, and its bias if any, whose result goes to this node alone."""
    layer: list[int] = []
    node = pool
    while True:
        (node,) = drafts[node].preds if len(drafts[node].preds) == 1 else (INPUT,)
        draft = drafts[node]
        if draft.primitive not in ("conv", "bias") or _uses(drafts, node) != 1:
            return None
        layer.insert(0, node)
        if draft.primitive == "conv":
            pointwise = draft.shape is not None and len(draft.shape) > 2 and set(draft.shape[2:]) == {1}
            return layer if pointwise else None


def _uses(drafts: list[Draft], node: int) -> int:
    return sum(node in draft.preds for draft in drafts)


def attach_hanging(drafts: list[Draft]) -> None:
    """A layer that hangs off the input and feeds attention is put between its data and the attention."""
    for draft in drafts:
        if draft.primitive != "msa":
            continue
        hanging = {index for index in draft.preds if drafts[index].hangs}
        data = draft.preds - hanging
        if hanging and data and max(data) < min(hanging):
            for index in hanging:
                drafts[index].preds = set(data)
            draft.preds = hanging


def by_depth(drafts: list[Draft], order: list[int]) -> list[int]:
    """Sort by the longest path from a node without predecessors.

    The published GHN-3 and GHN-2 take the last two nodes of this order for the classifier.
    """
    depth: dict[int, int] = {}
    for index in order:
        depth[index] = max((depth[p] + 1 for p in drafts[index].preds), default=0)
    return sorted(order, key=lambda index: (depth[index], index))


def _reaching(drafts: list[Draft], returned: tuple[int, ...]) -> set[int]:
    """Drafts from which a returned one is reached."""
    alive: set[int] = set()
    waiting = list(returned)
    while waiting:
        index = waiting.pop()
        if index not in alive:
            alive.add(index)
            waiting.extend(drafts[index].preds)
    return alive


def _node(draft: Draft) -> Node:
    return Node(draft.primitive, tuple(draft.slots), draft.shape, draft.op, draft.module)
