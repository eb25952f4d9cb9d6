"""What one recorded value carries through the lowering: which graph nodes and parameters it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["", "scale", "normalised", "product", "offset"]


@dataclass(frozen=True, slots=True)
class Flow:
    """Origin of a recorded value.

    Attributes:
        sources: Graph nodes whose values reach this one through wire; sorted, without repeats.
        indices: Graph nodes that reach it only through whole numbers or truth values (token ids, masks,
            chosen indices). They feed lookups, but are no data flow elsewhere.
        params: Parameters that it is made of, while no activation has joined them.
        open: Node whose bare output this is, up to layout and dtype; a parameter added to it is that node's
        bias.
        kind: ``scale``: a root of a mean square, variance or norm; ``normalised``: activations divided by
        one, with no weight yet; ``product``: ``params`` are the factors of a matrix product, in order;
        ``offset``: ``params`` were added to a constant.
        joined: ``params`` were concatenated, so that each is a weight of its own.
    """

    sources: tuple[int, ...] = ()
    indices: tuple[int, ...] = ()
    params: tuple[str, ...] = ()
    open: int | None = None
    kind: Kind = ""
    joined: bool = False

    @property
    def live(self) -> bool:
        """Whether activations flow in it."""
        return bool(self.sources)

    @property
    def is_param(self) -> bool:
        """Whether it is made of parameters alone."""
        return bool(self.params) and not self.sources

    @property
    def feeds(self) -> tuple[int, ...]:
        """The nodes that a consumer of whatever kind depends on."""
        return self.sources or self.indices


CONSTANT = Flow()
"""A value that depends on no input and on no parameter."""


def union(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Sorted union of sorted tuples."""
    distinct = {part for part in parts if part}
    if len(distinct) <= 1:
        return next(iter(distinct), ())
    return tuple(sorted(set().union(*distinct)))


def merge(flows: Iterable[Flow]) -> Flow:
    """Wire: what a value made of these values carries. Parameters are dropped once activations join them."""
    flows = list(flows)
    sources = union(flow.sources for flow in flows)
    if sources:
        return Flow(sources=sources)
    made = [flow for flow in flows if flow.params]
    params = tuple(dict.fromkeys(name for flow in made for name in flow.params))
    joined = any(flow.joined for flow in made)
    kind: Kind = made[0].kind if len(made) == 1 else ""
    return Flow(indices=union(flow.indices for flow in flows), params=params, kind=kind, joined=joined)
