"""ArchGraph: distances against networkx, order, round trip, what is refused."""

from __future__ import annotations

import json

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghn_init.errors import GHNInitError, GraphError
from ghn_init.graph import ArchGraph, Node, ParamSlot
from ghn_init.graph.primitives import PRIMITIVES


@st.composite
def graphs(draw: st.DrawFn, most: int = 24) -> ArchGraph:
    """Any directed acyclic graph over the 15 types, input first."""
    count = draw(st.integers(1, most))
    primitives = draw(st.lists(st.sampled_from(PRIMITIVES), min_size=count - 1, max_size=count - 1))
    sizes = st.lists(st.integers(1, 9), min_size=0, max_size=4).map(tuple)
    nodes = [Node("input")]
    for index, primitive in enumerate(primitives, 1):
        roles = draw(st.sampled_from([(), ("weight",), ("weight", "bias")]))
        slots = tuple(ParamSlot(f"m{index}.{role}", draw(sizes), role) for role in roles)
        nodes.append(Node(primitive, slots, slots[0].shape if slots else None, "op", f"m{index}"))
    pairs = [(s, t) for t in range(count) for s in range(t)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=3 * count)) if pairs else []
    outputs = draw(st.sets(st.integers(0, count - 1)))
    return ArchGraph(tuple(nodes), edges, tuple(sorted(outputs)), {"lost": "why"}, {"alias": "name"}, "drawn")


@settings(deadline=None)
@given(graphs(), st.integers(1, 60))
def test_distances_are_those_of_networkx(graph: ArchGraph, cutoff: int) -> None:
    lengths = dict(networkx.all_pairs_shortest_path_length(graph.to_networkx(), cutoff=cutoff))
    expected = np.zeros((len(graph), len(graph)), dtype=np.uint8)
    for source, targets in lengths.items():
        for target, length in targets.items():
            expected[source, target] = length
    assert np.array_equal(graph.distances(cutoff).numpy(), expected)


def test_distances_of_a_long_chain_end_at_the_cutoff() -> None:
    count = 300
    chain = ArchGraph(tuple(Node("sum") for _ in range(count)), [(i, i + 1) for i in range(count - 1)])
    row = chain.distances().numpy()[0]
    assert row.dtype == np.uint8
    assert row.tolist() == [i if i <= 50 else 0 for i in range(count)]
    assert chain.distances(255).numpy()[0].max() == 255
    for cutoff in (0, 256, -1):
        with pytest.raises(ValueError, match=f"1..255, got {cutoff}"):
            chain.distances(cutoff)


@settings(deadline=None)
@given(graphs())
def test_dictionary_round_trip_through_json(graph: ArchGraph) -> None:
    again = ArchGraph.from_dict(json.loads(json.dumps(graph.to_dict())))
    assert again.nodes == graph.nodes
    assert again.edges == graph.edges
    assert again.to_dict() == graph.to_dict()
    assert (again.outputs, again.unreached, again.tied, again.name) == (
        graph.outputs,
        {"lost": "why"},
        {"alias": "name"},
        "drawn",
    )


@given(graphs())
def test_views_of_a_graph_agree(graph: ArchGraph) -> None:
    before, after = graph.predecessors(), graph.successors()
    assert sorted((s, t) for t, sources in enumerate(before) for s in sources) == graph.edges
    assert sorted((s, t) for s, targets in enumerate(after) for t in targets) == graph.edges
    assert sum(graph.type_counts.values()) == len(graph)
    assert list(graph.type_counts) == [p for p in PRIMITIVES if p in graph.type_counts]
    for name, index in graph.slots.items():
        assert name in [slot.name for slot in graph.nodes[index].params]
    assert len(graph.slots) == sum(len(node.params) for node in graph.nodes)
    assert sorted(graph.to_networkx().edges) == graph.edges
    assert f"{len(graph)} nodes, {len(graph.edges)} edges" in repr(graph)


def test_edges_are_sorted_and_without_repeats() -> None:
    graph = ArchGraph((Node("input"), Node("conv"), Node("sum")), [(1, 2), (0, 1), (0, 2), (0, 1)])
    assert graph.edges == [(0, 1), (0, 2), (1, 2)]


def test_primitives_are_the_rows_of_the_type_embedding() -> None:
    rows = (
        *("max_pool", "avg_pool", "sep_conv", "dil_conv", "conv", "msa", "cse", "sum", "concat", "input"),
        *("bias", "bn", "ln", "pos_enc", "glob_avg"),
    )
    assert rows == PRIMITIVES
    assert [Node(name).type_id for name in PRIMITIVES] == list(range(15))


@pytest.mark.parametrize(
    ("nodes", "edges", "outputs", "message"),
    [
        ((Node("input"), Node("gelu")), [], (), "node 1: unknown primitive 'gelu'; expected one of max_pool"),
        (
            (Node("input"), Node("conv")),
            [(1, 0)],
            (),
            r"edge \(1, 0\) is out of range or against the topological",
        ),
        ((Node("input"), Node("conv")), [(1, 1)], (), r"edge \(1, 1\)"),
        ((Node("input"), Node("conv")), [(0, 2)], (), r"edge \(0, 2\) is out of range"),
        ((Node("input"), Node("conv")), [(-1, 1)], (), r"edge \(-1, 1\)"),
        ((Node("input"),), [], (1,), "output node 1 does not exist among 1 nodes"),
        (
            (Node("conv", (ParamSlot("w", (1,)),)), Node("bn", (ParamSlot("w", (1,)),))),
            [],
            (),
            "node 1: parameter 'w' already belongs to another node",
        ),
    ],
)
def test_malformed_graphs_are_refused(
    nodes: tuple[Node, ...], edges: list[tuple[int, int]], outputs: tuple[int, ...], message: str
) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        ArchGraph(nodes, edges, outputs)
    assert isinstance(caught.value, GHNInitError)
    assert isinstance(caught.value, ValueError)


def test_slot_counts_its_elements() -> None:
    assert ParamSlot("w", (4, 3, 2)).numel == 24
    assert ParamSlot("scalar", ()).numel == 1
