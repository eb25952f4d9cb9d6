"""Collects the nodes of an architecture graph while a recording is read in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from ghn_init.graph import ParamSlot
from ghn_init.graph.arch_graph import Role
from ghn_init.tracing.flow import Flow
from ghn_init.tracing.recurrence import Recurrence

Shape = tuple[int, ...]
INPUT = 0


@dataclass(slots=True)
class Draft:
    """A node under construction. Its predecessors always have smaller indices."""

    primitive: str
    preds: set[int]
    slots: list[ParamSlot] = field(default_factory=list)
    shape: Shape | None = None
    op: str = ""
    module: str = ""
    hangs: bool = False


class GraphBuilder:
    """Grows the list of drafts; index 0 is the input.

    A parameter belongs to the node of its first use. A later use either

    * joins that node, if all that feeds it comes earlier in the order: the same layer applied in parallel (a
      head shared by pyramid levels, experts of one stacked tensor, two towers with shared weights), or
    * becomes a node of the same primitive and shape without a slot, if it depends on the first (a layer
      repeated in sequence, an embedding reused as classifier).
    """

    def __init__(self, parameters: Mapping[str, Shape]) -> None:
        self.parameters = parameters
        self.drafts: list[Draft] = [Draft("input", set(), op="input")]
        self.owner: dict[str, int] = {}
        self.kept: dict[str, str] = {}
        self.attention: dict[object, int] = {}
        self.choosing: set[int] = set()  # drafts whose values were made into indices or masks
        self._joined: set[int] = set()
        self._recurrence = Recurrence()
        self._plain: dict[tuple[object, ...], int] = {}

    def node(
        self, primitive: str, preds: Iterable[int], shape: Shape | None = None, op: str = "", module: str = ""
    ) -> int:
        """A node without parameters.

        What follows a layer that was joined by a parallel use is itself found again instead of being
        repeated.
        """
        return self._bare(Draft(primitive, set(preds), [], shape, op, module), op)

    def _bare(self, draft: Draft, label: str) -> int:
        """Add a node without parameters, unless it stands for one that is there."""
        key = (draft.primitive, frozenset(draft.preds), draft.shape, label)
        if key in self._plain and not draft.preds.isdisjoint(self._joined):
            index = self._plain[key]
            self._joined.add(index)
            return index
        again = self._recurrence.find(draft.primitive, draft.preds, draft.module, label)
        if again is not None:
            return again
        self.drafts.append(draft)
        index = self._plain[key] = len(self.drafts) - 1
        self._recurrence.add(index, draft.primitive, draft.preds, draft.module, label)
        return index

    def owning(
        self, primitive: str, names: Mapping[Role, str], preds: Iterable[int], op: str = "", module: str = ""
    ) -> int:
        """A node that owns parameters.

        Args:
            primitive: One of the 15 types.
            names: Role (``weight``, ``bias``) → parameter.
            preds: Nodes that feed it.
            op: Name of the operation, for people.
            module: Path of the module, for people.
        """
        preds = set(preds)
        first = next(iter(names.values()))
        owner = self.owner.get(first)
        if owner is not None and self.drafts[owner].primitive == primitive and all(p < owner for p in preds):
            self.drafts[owner].preds |= preds
            self._joined.add(owner)
            return owner
        draft = Draft(primitive, preds, [], self.parameters[first], op, module)
        if owner is not None:
            return self._bare(draft, first)
        self.drafts.append(draft)
        index = len(self.drafts) - 1
        for role, name in names.items():
            self.own(index, name, role)
        return index

    def own(self, index: int, name: str, role: Role) -> bool:
        """Give a parameter to a node, unless another node has it. Returns whether this node has it now."""
        if name not in self.owner:
            self.owner[name] = index
            self.drafts[index].slots.append(ParamSlot(name, self.parameters[name], role))
        return self.owner[name] == index

    def release(self, index: int) -> str:
        """Take the only parameter of a node away again. The node, left without use, is dropped at the end."""
        name = self.drafts[index].slots.pop().name
        del self.owner[name]
        return name

    def hand_over(self, name: str, choosing: tuple[int, ...]) -> None:
        """Take a parameter from the node whose result chooses its rows, as distances to a codebook do.

        Args:
            name: The parameter.
            choosing: Nodes that reach the index of a lookup in it.
        """
        owner = self.owner.get(name)
        if owner is None or self.drafts[owner].primitive == "pos_enc" or len(self.drafts[owner].slots) > 1:
            return
        waiting = [index for index in choosing if index >= owner]
        while waiting:
            index = waiting.pop()
            if index == owner:
                self.release(owner)
                return
            waiting.extend(before for before in self.drafts[index].preds if before >= owner)

    def keep(self, names: Iterable[str], reason: str) -> None:
        """Note why no node owns these parameters, should it stay so."""
        for name in names:
            self.kept.setdefault(name, reason)

    def numel(self, name: str) -> int:
        """Number of elements of a parameter."""
        return prod(self.parameters[name])

    def main(self, flow: Flow) -> list[str]:
        """The parameters that a weight stands for: each part of a concatenation, else the largest.

        The others are noted as kept.
        """
        if flow.joined:
            chosen = [name for name in flow.params if self.numel(name) > 1]
        else:
            chosen = [max(flow.params, key=self.numel)] if flow.params else []
        rest = [name for name in flow.params if name not in chosen]
        if chosen:
            self.keep(rest, f"part of how the weight {chosen[0]} is computed")
        return chosen
