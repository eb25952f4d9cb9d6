"""The checker of graphs finds faults that are planted in the graph of a sound model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from states import ConvNet
from torch import nn

from ghn_init.coverage.sanity import account_problems, graph_problems, recording_problems
from ghn_init.tracing.lower import lower
from ghn_init.tracing.trace import record_model

UNUSED = {"conv.weight": "not used by this forward"}
RECORDING = record_model(ConvNet(), torch.zeros(1, 3, 8, 8))
GRAPH = lower(RECORDING)


def problems(graph):
    return graph_problems(graph) + recording_problems(graph, RECORDING)


def with_node(name, **changes):
    index = GRAPH.slots[name]
    nodes = list(GRAPH.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(GRAPH, nodes=tuple(nodes))


def without_edges(name, end):
    index = GRAPH.slots[name]
    return replace(GRAPH, edges=[edge for edge in GRAPH.edges if edge[end] != index])


def test_a_sound_graph_has_none():
    assert problems(GRAPH) == []


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (with_node("conv.weight", primitive="sep_conv"), "conv2d in 'conv' takes conv.weight"),
        (with_node("norm.weight", primitive="ln"), r"should be one of \['bn'\]"),
        (with_node("stem.bias", primitive="conv"), "conv2d in 'stem' takes stem.bias"),
        (with_node("conv.weight", params=()), "conv.weight has neither a node nor a reason"),
        (
            replace(with_node("conv.weight", params=()), unreached=UNUSED),
            "conv.weight is 'not used by this forward', but conv2d in 'conv' takes it",
        ),
        (without_edges("conv.weight", 0), "reaches no output"),
        (without_edges("stem.weight", 1), "is fed by nothing"),
        (replace(GRAPH, outputs=()), "no outputs"),
    ],
)  # fmt: skip
def test_planted_faults_are_found(graph, message):
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(problems(graph)))


class Coordinates(nn.Module):
    """Adds what a layer makes of constant coordinates; one parameter is unused."""

    def __init__(self):
        super().__init__()
        self.data, self.places, self.unused = nn.Linear(4, 4), nn.Linear(2, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.data(x) + self.places(torch.ones(3, 2)) * x.mean()


def test_layers_on_constants_and_unused_ones():
    recording = record_model(Coordinates(), torch.zeros(3, 4))
    graph = lower(recording)
    assert graph_problems(graph) + recording_problems(graph, recording) == []
    assert graph.unreached.keys() == {"unused.weight", "unused.bias"}


def test_each_parameter_is_told_of_once():
    assert account_problems(["a", "b"], {"a": 1}, {"b": "why"}, {}) == []
    found = account_problems(["a", "b", "c"], {"a": 1}, {"a": "why", "b": ""}, {})
    assert found == ["a is reported 2 times", "c is reported 0 times", "b has no reason"]
