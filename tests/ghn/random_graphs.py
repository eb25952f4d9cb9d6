"""Small random architecture graphs, and the same graph with other names or another order."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from ghn_init.graph import ArchGraph, Node, ParamSlot

_CHANNELS = (1, 3, 5, 8, 12, 24, 40, 96)
_KERNELS = (1, 2, 3, 5, 7)
_PLAIN = ("sum", "concat", "cse", "msa", "glob_avg", "max_pool")


def _node(rng: random.Random, index: int) -> Node:
    primitive = rng.choice(("conv", "sep_conv", "linear", "bn", "ln", "bias", *_PLAIN))
    name = f"layers.{index}"
    out, into = rng.choice(_CHANNELS), rng.choice(_CHANNELS)
    if primitive in ("conv", "sep_conv"):
        kernel = rng.choice(_KERNELS)
        shape = (out, into if primitive == "conv" else 1, kernel, rng.choice((1, kernel)))
        return Node(primitive, (ParamSlot(f"{name}.weight", shape),), shape)
    if primitive == "linear":
        return Node("conv", (ParamSlot(f"{name}.weight", (out, into)),), (out, into))
    if primitive in ("bn", "ln"):
        slots = (ParamSlot(f"{name}.weight", (out,)), ParamSlot(f"{name}.bias", (out,), "bias"))
        return Node(primitive, slots, (out,))
    if primitive == "bias":
        return Node(primitive, (ParamSlot(f"{name}.bias", (out,), "bias"),), (out,))
    return Node(primitive, (), (1, 1, 3, 3) if primitive == "max_pool" else None)


def random_graph(seed: int, count: int, classes: int = 10) -> ArchGraph:
    """A connected graph of ``count`` random nodes that ends in a linear classifier with a bias."""
    rng = random.Random(seed)
    nodes = [Node("input"), *(_node(rng, index) for index in range(1, count - 2))]
    edges = [(rng.randrange(target), target) for target in range(1, len(nodes))]
    edges += [tuple(sorted(rng.sample(range(len(nodes)), 2))) for _ in range(count // 2)]
    last = len(nodes)
    nodes.append(Node("conv", (ParamSlot("head.weight", (classes, 24)),), (classes, 24)))
    nodes.append(Node("bias", (ParamSlot("head.bias", (classes,), "bias"),), (classes,)))
    fed = {source for source, _ in edges}
    edges += [(index, last) for index in range(last) if index not in fed]
    edges.append((last, last + 1))
    return ArchGraph(tuple(nodes), edges, outputs=(last + 1,))


def graphs(classes: int = 10) -> st.SearchStrategy[ArchGraph]:
    """Random graphs of 4 to 40 nodes."""
    return st.builds(random_graph, st.integers(0, 10**6), st.integers(4, 40), st.just(classes))


def renamed(graph: ArchGraph, prefix: str) -> ArchGraph:
    """The same graph with other names of tensors."""
    nodes = [
        Node(
            node.primitive,
            tuple(ParamSlot(prefix + slot.name, slot.shape, slot.role) for slot in node.params),
            node.shape,
            node.op,
        )
        for node in graph.nodes
    ]
    return ArchGraph(tuple(nodes), graph.edges, graph.outputs)


def reordered(graph: ArchGraph, seed: int) -> ArchGraph:
    """The same graph in another topological order; the input stays first."""
    rng = random.Random(seed)
    before = graph.predecessors()
    order: list[int] = [0]
    waiting = set(range(1, len(graph)))
    while waiting:
        free = sorted(index for index in waiting if not waiting.intersection(before[index]))
        order.append(rng.choice(free))
        waiting.remove(order[-1])
    place = {old: new for new, old in enumerate(order)}
    return ArchGraph(
        tuple(graph.nodes[old] for old in order),
        [(place[source], place[target]) for source, target in graph.edges],
        tuple(place[index] for index in graph.outputs),
    )
