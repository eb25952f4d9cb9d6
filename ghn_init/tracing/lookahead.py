"""Facts about an operation that only its consumers tell: attention, score biases, statistics and squeezes."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator
from math import prod
from typing import Any

from torch import fx

from ghn_init.tracing.rules.functions import (
    ADD,
    CONCATENATE,
    CONTRACTION,
    DIVIDE,
    EMBEDDING,
    EXPAND,
    FUSED_ATTENTION,
    LAYOUT,
    MIXING,
    MULTIPLY,
    POINTWISE,
    POOL_TO_POINT,
    RESCALING,
    SOFTMAX,
    SUBTRACT,
    base_function,
)

_BUDGET = 64
_STEPS = 16
_TERMS = ADD | SUBTRACT | CONCATENATE
_RECOMBINE = MULTIPLY | DIVIDE | SUBTRACT


class Lookahead:
    """What the consumers of an operation make of it.

    Attributes:
        attends: Product of attention weights and values → the softmax that made the weights.
        scores: Additions and concatenations on attention scores, ahead of such a softmax.
        score_tables: Lookups that are terms of such scores.
        folded: Means that are a statistic of a norm or the squeeze of a gate: their result, possibly through
            layers, scales or shifts a larger tensor that does not depend on it.
    """

    def __init__(self, graph: fx.Graph, parameters: Container[str]) -> None:
        self.attends: dict[fx.Node, fx.Node] = {}
        self.scores: set[fx.Node] = set()
        self.score_tables: set[fx.Node] = set()
        self.folded: set[fx.Node] = set()
        self._parameters = parameters
        self._order = {node: index for index, node in enumerate(graph.nodes)}
        seen: set[fx.Node] = set()
        for node in graph.nodes:
            if node.op != "call_function":
                continue
            function = _function(node)
            if function in SOFTMAX and self._find_values(node):
                self._mark_scores(nodes_in(node.args[0]), seen)
            elif function in FUSED_ATTENTION:
                self._mark_scores(nodes_in((node.args[3:], node.kwargs.get("attn_mask"))), seen)
            elif function in POOL_TO_POINT and self._is_folded(node):
                self.folded.add(node)

    def _find_values(self, softmax: fx.Node) -> bool:
        """Follow attention weights to the products with values. A mix of heads on the way is allowed once."""
        waiting = [(softmax, False)]
        seen = {softmax}
        found = False
        while waiting and len(seen) < _BUDGET:
            node, mixed = waiting.pop()
            for user in node.users:
                function = _function(user)
                if user in seen:
                    continue
                if function in CONTRACTION and self._meets_values(user, node):
                    self.attends[user] = softmax
                    found = True
                elif (function in RESCALING and _size(user) == _size(node)) or _is_item(user):
                    seen.add(user)
                    waiting.append((user, mixed))
                elif not mixed and self._mixes(user):
                    seen.add(user)
                    waiting.append((user, True))
        return found

    def _meets_values(self, product: fx.Node, weights: fx.Node) -> bool:
        others = [node for node in nodes_in(product.args) if node is not weights]
        return bool(others) and not all(self._is_parameter(node) for node in others)

    def _mixes(self, node: fx.Node) -> bool:
        """Whether a layer may mix the heads of attention weights: a product with a parameter at most."""
        function = _function(node)
        if function in MIXING:
            return True
        before = self._data_of(node)
        if function not in CONTRACTION or before is None or len(list(nodes_in(node.args))) != 2:
            return False
        made, given = node.meta.get("shape"), before.meta.get("shape")
        if made is None or given is None:
            return False
        return len(made) == len(given) > 2 and made[-2:] == given[-2:]

    def _data_of(self, node: fx.Node) -> fx.Node | None:
        """The operand of a layer that is no parameter, if there is exactly one."""
        operands = [operand for operand in nodes_in(node.args) if not self._is_parameter(operand)]
        return operands[0] if len(operands) == 1 else None

    def _is_parameter(self, node: fx.Node) -> bool:
        while (_function(node) in LAYOUT or _is_item(node)) and isinstance(node.args[0], fx.Node):
            node = node.args[0]
        return node.op == "get_attr" and str(node.target) in self._parameters

    def _mark_scores(self, scores: Iterable[fx.Node], seen: set[fx.Node]) -> None:
        """Walk back from attention scores, or an additive mask, to what they are computed from."""
        waiting = list(scores)
        while waiting:
            node = waiting.pop()
            function = _function(node)
            mixed = self._mixes(node) and self._is_product(node)
            if node in seen:
                continue
            if function in EMBEDDING or (
                _is_item(node) and self._is_parameter(next(nodes_in(node.args[:1])))
            ):
                self.score_tables.add(node)
            if not (mixed or function in POINTWISE or function in CONCATENATE or _is_item(node)):
                continue
            seen.add(node)
            if function in _TERMS:
                self.scores.add(node)
            data = self._data_of(node) if mixed else None
            waiting.extend(nodes_in(node.args[: 1 if _is_item(node) else None]) if data is None else [data])

    def _is_product(self, node: fx.Node) -> bool:
        """Whether a mix of heads is one of queries times keys."""
        for _ in range(_STEPS):
            before = self._data_of(node) if self._mixes(node) else next(nodes_in(node.args[:1]), None)
            if before is None:
                return False
            if _function(before) in CONTRACTION:
                return not any(self._is_parameter(operand) for operand in nodes_in(before.args))
            if _function(before) not in POINTWISE:
                return False
            node = before
        return False

    def _is_folded(self, mean: fx.Node) -> bool:
        """Walk the consumers in order until the result meets a larger tensor that does not depend on it."""
        derived: set[fx.Node] = {mean}
        waiting = [(self._order[user], user) for user in mean.users]
        heapq.heapify(waiting)
        while waiting and len(derived) < _BUDGET:
            _, node = heapq.heappop(waiting)
            if node in derived or node.op != "call_function":
                continue
            if _function(node) in _RECOMBINE and _scales_larger(node, derived):
                return True
            derived.add(node)
            for user in node.users:
                heapq.heappush(waiting, (self._order[user], user))
        return False


def _scales_larger(node: fx.Node, derived: set[fx.Node]) -> bool:
    operands = [arg for arg in node.args[:2] if isinstance(arg, fx.Node)]
    if len(operands) != 2:
        return False
    inner = [arg for arg in operands if arg in derived]
    outer = [arg for arg in operands if arg not in derived]
    if len(inner) != 1 or outer[0].op == "get_attr":
        return False
    small, large = _size(_unexpanded(inner[0])), _size(outer[0])
    return small is not None and large is not None and small < large


def _unexpanded(node: fx.Node) -> fx.Node:
    while _function(node) in EXPAND and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _function(node: fx.Node) -> Any:
    return base_function(node.target) if node.op == "call_function" else None


def _is_item(node: fx.Node) -> bool:
    return getattr(node.target, "__name__", "") in ("getitem", "__getitem__")


def _size(node: fx.Node) -> int | None:
    shape = node.meta.get("shape")
    return None if shape is None else prod(shape)


def nodes_in(value: Any) -> Iterator[fx.Node]:
    """Every recorded node inside nested arguments."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from nodes_in(item)
    elif isinstance(value, slice):
        yield from nodes_in((value.start, value.stop, value.step))
