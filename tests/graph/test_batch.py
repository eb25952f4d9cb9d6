"""GraphBatch: numbering, distances, degrees and levels of several graphs."""

from __future__ import annotations

import numpy as np
from parity import golden_arch_graph, golden_graph

from ghn_init.graph import ArchGraph, Node
from ghn_init.graph.batch import GraphBatch, graph_structure

DIAMOND = ArchGraph(
    (Node("input"), Node("conv"), Node("conv"), Node("sum"), Node("bias")),
    [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (3, 4)],
)


def test_structure_of_a_diamond():
    structure = graph_structure(DIAMOND)
    assert structure.in_degrees.tolist() == [0, 1, 1, 3, 1]
    assert structure.out_degrees.tolist() == [3, 1, 1, 1, 0]
    assert structure.forward_levels.tolist() == [0, 1, 1, 2, 3]
    assert structure.backward_levels.tolist() == [3, 2, 2, 1, 0]
    assert structure.pair_codes[0].tolist() == [0, 1, 1, 1, 2]
    assert structure.pair_codes[4].tolist() == [52, 52, 52, 51, 0]


def test_a_cutoff_of_one_leaves_the_edges():
    assert np.argwhere(graph_structure(DIAMOND, 1).distances).tolist() == [list(e) for e in DIAMOND.edges]


def test_graphs_are_numbered_one_after_the_other():
    other = golden_arch_graph("resnet18")
    batch = GraphBatch([DIAMOND, other, DIAMOND])
    assert len(batch) == 5 + len(other) + 5
    assert batch.offsets == (0, 5, 5 + len(other))
    distances = batch.distances
    assert np.array_equal(distances[5:-5, 5:-5], golden_graph("resnet18")[2])
    assert np.array_equal(distances[:5, :5], distances[-5:, -5:])
    assert not distances[:5, 5:].any()
    assert not distances[5:, :5].any()
    assert batch.type_ids[:5].tolist() == [9, 4, 4, 7, 10]


def test_a_structure_is_computed_once_for_a_graph():
    assert graph_structure(DIAMOND) is graph_structure(DIAMOND)
    assert graph_structure(DIAMOND, 1) is not graph_structure(DIAMOND)
