"""Recognises a recurrence that the forward unrolls over the positions of its input."""

from __future__ import annotations

_STEPS = 2
_MOST_ROOTS = 16
_LIGHT = ("sum", "cse", "concat", "conv", "bias")


class Recurrence:
    """Keeps graphs of scans (state-space layers, recurrent cells) independent of the input's length.

    Each step of such a scan repeats the same operations on the state of the step before. A node that owns no
    parameter (also a later use of a weight) repeats one of its type in the same module if it follows from it,
    or from the same nodes, and, traced back through such nodes, rests on the same others. Two steps are
    drawn; later ones are the second again.
    """

    def __init__(self) -> None:
        self._roots: dict[int, tuple[str, frozenset[int]]] = {}
        self._preds: dict[int, frozenset[int]] = {}
        self._above: dict[int, frozenset[int]] = {}
        self._steps: dict[tuple[object, ...], list[int]] = {}

    def find(self, primitive: str, preds: set[int], module: str, label: object) -> int | None:
        """The node of the second step that a new node of this kind would repeat; None if there is none."""
        if primitive not in _LIGHT:
            return None
        steps = self._steps.get((primitive, module, label, self._rests_on(preds, module)), [])
        if len(steps) < _STEPS:
            return None
        last = steps[-1]
        return last if last in self._follows(preds, module) or self._preds[last] == preds else None

    def add(self, index: int, primitive: str, preds: set[int], module: str, label: object) -> None:
        """Remember a new node without parameters."""
        if primitive not in _LIGHT:
            return
        roots = self._rests_on(preds, module)
        if len(roots) > _MOST_ROOTS:
            return
        self._preds[index] = frozenset(preds)
        self._roots[index] = (module, roots)
        self._above[index] = self._follows(preds, module) | {index}
        self._steps.setdefault((primitive, module, label, roots), []).append(index)

    def _rests_on(self, preds: set[int], module: str) -> frozenset[int]:
        roots: set[int] = set()
        for pred in preds:
            place, below = self._roots.get(pred, ("", None))
            roots |= below if below is not None and place == module else {pred}
        return frozenset(roots)

    def _follows(self, preds: set[int], module: str) -> frozenset[int]:
        """Nodes of the same module that these rest on without another node between."""
        within = [
            above for pred in preds if (above := self._above.get(pred)) and self._roots[pred][0] == module
        ]
        return frozenset().union(*within)
