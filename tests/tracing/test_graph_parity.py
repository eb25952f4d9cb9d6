"""Graphs against those of the original code: same typed nodes, parameters, edges and distances."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from graph_digest import colours, digest
from parity import GRAPHS, golden_arch_graph, golden_graph

from ghn_init.graph import ArchGraph
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import Recording, record

# The originals' graph of ViT on torch >= 2 lost its attention; `vit_b_16.softmax` is the one that they had.
NETWORKS = [name for name in GRAPHS if name != "vit_b_16"]
# Every torchvision classification network but swin_v2_{t,s,b}, whose original graphs have cycles; made by the
# original code, with attention written out in the ViTs.
TORCHVISION: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "torchvision_graphs.json").read_text()
)
BROKEN_IN_THE_ORIGINAL = {"maxvit_t"}
QUICK = {"densenet121", "mnasnet0_5", "regnet_y_400mf", "resnext50_32x4d", "vgg11_bn"}


def traced(name: str, convention: str = "clean") -> ArchGraph:
    return lower(recorded(name), convention)


@lru_cache(maxsize=len(GRAPHS))
def recorded(name: str) -> Recording:
    network, _, variant = name.partition(".")
    options = {"init_weights": False} if network in ("googlenet", "inception_v3") else {}
    # The RegNets and ViT-H cannot be built on the meta device.
    with torch.device("cpu" if network.startswith(("regnet", "vit_h")) else "meta"):
        model = torchvision.models.get_model(network, **options).train(variant == "train")
    size = 299 if network == "inception_v3" else getattr(model, "image_size", 224)
    return record(model, (torch.empty(2, 3, size, size, device="meta"),))


def full_labels(graph: ArchGraph) -> list[Any]:
    return [(node.primitive, node.params, node.shape) for node in graph.nodes]


def assert_same(ours: ArchGraph, golden: ArchGraph) -> None:
    assert Counter(full_labels(ours)) == Counter(full_labels(golden))
    ours_colour, golden_colour = (colours(full_labels(g), g.edges) for g in (ours, golden))
    assert len(set(golden_colour)) == len(golden), "the colours tell all nodes apart"
    place = {colour: index for index, colour in enumerate(golden_colour)}
    match = [place[colour] for colour in ours_colour]
    assert {(match[s], match[t]) for s, t in ours.edges} == set(golden.edges)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in BROKEN_IN_THE_ORIGINAL])
def test_clean_graph_equals_the_original(name: str) -> None:
    ours, golden = traced(name), golden_arch_graph(name)
    assert_same(ours, golden)
    mine = np.argsort(colours(full_labels(ours), ours.edges))
    theirs = np.argsort(colours(full_labels(golden), golden.edges))
    distances = golden_graph(name)[2]
    assert np.array_equal(ours.distances().numpy()[mine][:, mine], distances[theirs][:, theirs])


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


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TORCHVISION]
)
def test_torchvision_graph_equals_the_original(name: str) -> None:
    golden = TORCHVISION[name]
    for convention in ("ghn3",) if name in BROKEN_IN_THE_ORIGINAL else ("clean", "ghn3"):
        ours = traced(name, convention)
        first = [node.params[0].name if node.params else None for node in ours.nodes]
        labels = [(node.primitive, slot, node.shape) for node, slot in zip(ours.nodes, first, strict=True)]
        assert (len(ours), len(ours.edges)) == (golden["nodes"], golden["edges"])
        assert digest(labels, ours.edges) == golden["digest"]
        assert first[-2:] == golden["last"]
