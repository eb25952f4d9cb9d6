"""Graphs against those of the original code: same typed nodes, parameters, edges and distances."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torchvision
from parity import GRAPHS, golden_arch_graph, golden_graph

from ghn_init.graph import ArchGraph
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import record

# The originals' graph of ViT on torch >= 2 lost its attention; `vit_b_16.softmax` is the one that they had.
NETWORKS = [name for name in GRAPHS if name != "vit_b_16"]
BROKEN_IN_THE_ORIGINAL = {"maxvit_t"}


def traced(name: str, convention: str = "clean") -> ArchGraph:
    network, _, variant = name.partition(".")
    options = {"init_weights": False} if network in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(network, **options).train(variant == "train")
    size = 299 if network == "inception_v3" else 224
    return lower(record(model, (torch.empty(2, 3, size, size, device="meta"),)), convention)


def colours(graph: ArchGraph) -> list[int]:
    """One colour per node from its type, parameters and shape, and from all its ancestors and descendants."""
    own = [(node.primitive, node.params, node.shape) for node in graph.nodes]
    down, up = [0] * len(graph), [0] * len(graph)
    predecessors, successors = graph.predecessors(), graph.successors()
    for index in range(len(graph)):
        down[index] = hash((own[index], tuple(sorted(down[p] for p in predecessors[index]))))
    for index in reversed(range(len(graph))):
        up[index] = hash((down[index], tuple(sorted(up[s] for s in successors[index]))))
    return up


def assert_same(ours: ArchGraph, golden: ArchGraph) -> None:
    assert Counter((n.primitive, n.params, n.shape) for n in ours.nodes) == Counter(
        (n.primitive, n.params, n.shape) for n in golden.nodes
    )
    ours_colour, golden_colour = colours(ours), colours(golden)
    assert len(set(golden_colour)) == len(golden), "the colours tell all nodes apart"
    place = {colour: index for index, colour in enumerate(golden_colour)}
    match = [place[colour] for colour in ours_colour]
    assert {(match[s], match[t]) for s, t in ours.edges} == set(golden.edges)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in BROKEN_IN_THE_ORIGINAL])
def test_clean_graph_equals_the_original(name: str) -> None:
    ours, golden = traced(name), golden_arch_graph(name)
    assert_same(ours, golden)
    match = np.argsort(np.array(colours(ours)))
    against = np.argsort(np.array(colours(golden)))
    assert np.array_equal(
        ours.distances().numpy()[match][:, match], golden_graph(name)[2][against][:, against]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_ghn3_convention_equals_the_original_and_ends_in_the_same_nodes(name: str) -> None:
    ours, golden = traced(name, "ghn3"), golden_arch_graph(name)
    assert_same(ours, golden)
    assert [node.params for node in ours.nodes[-2:]] == [node.params for node in golden.nodes[-2:]]


def test_clean_graph_of_maxvit_keeps_its_head_at_the_end() -> None:
    ours, golden = traced("maxvit_t"), golden_arch_graph("maxvit_t")
    hidden, head = ours.slots["classifier.3.bias"], ours.slots["classifier.5.weight"]
    assert ours.outputs == (head,)
    assert [s for s, t in ours.edges if t == head] == [hidden]
    named = [[(g.nodes[s].params, g.nodes[t].params) for s, t in g.edges] for g in (ours, golden)]
    ours_only, golden_only = Counter(named[0]) - Counter(named[1]), Counter(named[1]) - Counter(named[0])
    assert sum(ours_only.values()) == sum(golden_only.values()) == 1, "nothing else differs"
