"""ArchGraph: an architecture as typed nodes, parameter slots and directed edges.

It is the only contract between tracing (which builds it) and the GHN (which reads it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ghn_init.errors import GraphError
from ghn_init.graph.paths import MAX_DISTANCE, shortest_distances
from ghn_init.graph.primitives import PRIMITIVE_INDEX, PRIMITIVES

if TYPE_CHECKING:
    import networkx
    import torch
    from matplotlib.axes import Axes

Role = Literal["weight", "bias"]


@dataclass(frozen=True, slots=True)
class ParamSlot:
    """One tensor that a node owns.

    Attributes:
        name: Qualified name of the tensor in the model (``layer1.0.conv1.weight``). A parametrised
            tensor goes by the name of the attribute (``conv.weight``), not of what it is computed from.
        shape: Shape of the tensor in the model.
        role: ``weight`` or ``bias``. A norm's node owns both; a plain bias is a node of its own.
    """

    name: str
    shape: tuple[int, ...]
    role: Role = "weight"

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive operation.

    Attributes:
        primitive: One of the 15 names of :data:`ghn_init.graph.primitives.PRIMITIVES`.
        params: Tensors that the node owns; empty for operations without parameters.
        shape: What the shape embedding sees: the first slot's shape, ``(1, 1, kh, kw)`` for a pooling
            operation with a kernel, else ``None``.
        op: Name of the recorded operation (``conv2d``), for people.
        module: Path of the module whose forward ran the operation, for people.
    """

    primitive: str
    params: tuple[ParamSlot, ...] = ()
    shape: tuple[int, ...] | None = None
    op: str = ""
    module: str = ""

    @property
    def type_id(self) -> int:
        """Row of the type embedding."""
        return PRIMITIVE_INDEX[self.primitive]

    @property
    def place(self) -> str:
        """Path of the module that the operation belongs to; empty for the model itself."""
        return self.module or (self.params[0].name.rpartition(".")[0] if self.params else "")


@dataclass(frozen=True, eq=False)
class ArchGraph:
    """A directed acyclic graph of primitive operations, in topological order.

    Node 0 is the ``input`` node. Every edge ``(source, target)`` has ``source < target``.

    Attributes:
        nodes: The operations.
        edges: Pairs of node indices, sorted, without repeats.
        outputs: Indices of the nodes whose values the model returns (through wire only).
        unreached: Parameter name → why no node owns it (not used by this forward, no rule, ...).
        tied: Alias → the name under which a slot lists the shared tensor.
        name: What the graph was made from, for people.

    Raises:
        GraphError: A primitive is unknown, an edge runs against the order or out of range, or two
            slots have the same name.
    """

    nodes: tuple[Node, ...]
    edges: list[tuple[int, int]]
    outputs: tuple[int, ...] = ()
    unreached: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "edges", sorted({(int(s), int(t)) for s, t in self.edges}))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        _check(self)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        slots = sum(len(node.params) for node in self.nodes)
        label = f"{self.name!r}, " if self.name else ""
        return f"ArchGraph({label}{len(self)} nodes, {len(self.edges)} edges, {slots} parameters)"

    @cached_property
    def slots(self) -> dict[str, int]:
        """Parameter name → index of the node that owns it."""
        return {slot.name: index for index, node in enumerate(self.nodes) for slot in node.params}

    @cached_property
    def type_counts(self) -> dict[str, int]:
        """Primitive → number of nodes, in the order of the vocabulary, zeros left out."""
        counts = dict.fromkeys(PRIMITIVES, 0)
        for node in self.nodes:
            counts[node.primitive] += 1
        return {name: count for name, count in counts.items() if count}

    def predecessors(self) -> list[list[int]]:
        """For each node the indices of the nodes that feed it."""
        result: list[list[int]] = [[] for _ in self.nodes]
        for source, target in self.edges:
            result[target].append(source)
        return result

    def successors(self) -> list[list[int]]:
        """For each node the indices of the nodes that it feeds."""
        result: list[list[int]] = [[] for _ in self.nodes]
        for source, target in self.edges:
            result[source].append(target)
        return result

    def distances(self, cutoff: int = MAX_DISTANCE) -> torch.Tensor:
        """Shortest directed path lengths.

        Args:
            cutoff: Longest length kept, in edges; longer ones count as no path. At most 255.

        Returns:
            ``(N, N)`` uint8 tensor; row = source, column = target; 0 where there is no path.
        """
        import torch

        return torch.from_numpy(shortest_distances(len(self), self.edges, cutoff))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` is its inverse."""
        return {
            "name": self.name,
            "nodes": [asdict(node) for node in self.nodes],
            "edges": [list(edge) for edge in self.edges],
            "outputs": list(self.outputs),
            "unreached": dict(self.unreached),
            "tied": dict(self.tied),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchGraph:
        """Inverse of :meth:`to_dict`."""
        return cls(
            nodes=tuple(_node_from_dict(node) for node in data["nodes"]),
            edges=[(source, target) for source, target in data["edges"]],
            outputs=tuple(data.get("outputs", ())),
            unreached=dict(data.get("unreached", {})),
            tied=dict(data.get("tied", {})),
            name=data.get("name", ""),
        )

    def to_networkx(self) -> networkx.DiGraph:
        """The graph as a ``networkx.DiGraph``; node attributes ``primitive, params, shape, op, module``."""
        import networkx

        graph = networkx.DiGraph(name=self.name)
        for index, node in enumerate(self.nodes):
            graph.add_node(
                index,
                primitive=node.primitive,
                params=[slot.name for slot in node.params],
                shape=node.shape,
                op=node.op,
                module=node.module,
            )
        graph.add_edges_from(self.edges)
        return graph

    def plot(self, path: str | None = None, **options: Any) -> Axes:
        """Draw the graph with matplotlib; see :func:`ghn_init.graph.draw.plot`."""
        from ghn_init.graph.draw import plot

        return plot(self, path, **options)

    def to_html(self, path: str | None = None, **options: Any) -> str:
        """The graph as one interactive page, written to ``path`` if given; see
        :func:`ghn_init.graph.page.page`.
        """
        from ghn_init.graph.page import page

        return page(self, path, **options)


def _node_from_dict(data: Mapping[str, Any]) -> Node:
    slots = tuple(ParamSlot(p["name"], tuple(p["shape"]), p["role"]) for p in data["params"])
    shape = None if data["shape"] is None else tuple(data["shape"])
    return Node(data["primitive"], slots, shape, data.get("op", ""), data.get("module", ""))


def _check(graph: ArchGraph) -> None:
    count = len(graph.nodes)
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if node.primitive not in PRIMITIVE_INDEX:
            raise GraphError(
                f"node {index}: unknown primitive {node.primitive!r}; expected one of {', '.join(PRIMITIVES)}"
            )
        for slot in node.params:
            if slot.name in seen:
                raise GraphError(f"node {index}: parameter {slot.name!r} already belongs to another node")
            seen.add(slot.name)
    _check_indices(graph.edges, graph.outputs, count)


def _check_indices(edges: Sequence[tuple[int, int]], outputs: Sequence[int], count: int) -> None:
    for source, target in edges:
        if not 0 <= source < target < count:
            raise GraphError(
                f"edge ({source}, {target}) is out of range or against the topological order of {count} nodes"
            )
    for index in outputs:
        if not 0 <= index < count:
            raise GraphError(f"output node {index} does not exist among {count} nodes")
