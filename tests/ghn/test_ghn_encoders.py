"""What every registered encoder must do, and the fast encoders against plain definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs, random_graph, reordered

from ghn_init.ghn import GHNConfig
from ghn_init.ghn.encoders import ENCODERS, graphormer, sweep
from ghn_init.graph.batch import GraphBatch

HID = 16


def encoder(name: str, **changes):
    torch.manual_seed(1)
    made = ENCODERS[name](GHNConfig(hid=HID, layers=2, heads=4, encoder=name, **changes))
    return made.double()


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, HID, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("name", sorted(ENCODERS))
@settings(max_examples=15, deadline=None)
@given(several=st.lists(graphs(), min_size=1, max_size=4))
def test_graphs_of_a_batch_do_not_influence_each_other(name, virtual, several):
    encode = encoder(name, virtual_edges=virtual)
    cutoff = 50 if virtual else 1
    x = noise(sum(map(len, several)))
    alone = [
        encode(part, GraphBatch([graph], cutoff))
        for part, graph in zip(x.split([len(graph) for graph in several]), several, strict=True)
    ]
    torch.testing.assert_close(encode(x, GraphBatch(several, cutoff)), torch.cat(alone))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_input_is_kept_and_gradients_reach_every_parameter(name):
    encode = encoder(name)
    graph = random_graph(3, 30)
    x = noise(len(graph)).requires_grad_()
    before = x.detach().clone()
    encode(x, GraphBatch([graph])).pow(2).sum().backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    for label, parameter in encode.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", sorted(ENCODERS))
@settings(max_examples=15, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 99))
def test_the_topological_order_does_not_matter(name, graph, seed):
    encode = encoder(name)
    other = reordered(graph, seed)
    places = torch.tensor([other.nodes.index(node) for node in graph.nodes])
    if len(set(places.tolist())) < len(graph):
        return  # equal nodes cannot be told apart
    x = noise(len(graph))
    shuffled = torch.empty_like(x).index_copy(0, places, x)
    torch.testing.assert_close(
        encode(shuffled, GraphBatch([other])).index_select(0, places), encode(x, GraphBatch([graph]))
    )


@pytest.mark.parametrize("virtual", [True, False])
@settings(max_examples=15, deadline=None)
@given(graph=graphs())
def test_gated_gnn_equals_node_by_node_sweeps(virtual, graph):
    gated = encoder("gated_gnn", virtual_edges=virtual)
    batch = GraphBatch([graph], 50 if virtual else 1)
    paths = torch.from_numpy(batch.distances)
    x = noise(len(graph))
    rows = list(x)
    for _ in range(2):
        for neighbours, order in ((paths.T, range(len(graph))), (paths, reversed(range(len(graph))))):
            for node in order:
                message = torch.zeros(HID, dtype=torch.float64)
                for other, length in enumerate(neighbours[node].tolist()):
                    if length == 1:
                        message = message + gated.message(rows[other])
                    if length and virtual:
                        message = message + gated.virtual(rows[other]) / length
                rows[node] = gated.cell(message, rows[node])
    torch.testing.assert_close(gated(x, batch), torch.stack(rows), atol=1e-6, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(graph=graphs())
def test_pair_bias_equals_the_dense_definition(graph):
    bias = encoder("graphormer").pair_bias
    batch = GraphBatch([graph])
    paths = torch.from_numpy(batch.distances).long()
    dense = bias.distance(torch.stack([paths, paths.T], dim=-1) + 2).flatten(2)
    expected = bias.output(torch.relu(bias.hidden(dense)))
    codes = torch.from_numpy(batch.structures[0].pair_codes).long()
    torch.testing.assert_close(bias(50)[codes], expected)


def test_attention_in_blocks_of_rows_equals_attention_at_once(monkeypatch):
    encode = encoder("graphormer")
    several = [random_graph(seed, count) for seed, count in ((1, 40), (2, 17))]
    batch = GraphBatch(several)
    x = noise(len(batch))
    values, gradients = [], []
    for kept in (graphormer._KEPT_ELEMENTS, 0):
        monkeypatch.setattr(graphormer, "_KEPT_ELEMENTS", kept)
        monkeypatch.setattr(graphormer, "_BLOCK_ELEMENTS", 2 * 4 * 40 * 7)
        values.append(encode(x, batch))
        gradients.append(torch.autograd.grad(values[-1].square().sum(), list(encode.parameters())))
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("virtual", [True, False])
def test_the_gradient_of_a_sweep_is_that_of_its_values(virtual, monkeypatch):
    encode = encoder("gated_gnn", virtual_edges=virtual)
    monkeypatch.setattr(sweep, "_MOST_WEIGHTS", 40)  # several blocks of levels
    batch = GraphBatch([random_graph(5, 9), random_graph(6, 4)], 50 if virtual else 1)
    names, values = zip(*encode.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(encode, dict(zip(names, parameters, strict=True)), (x, batch))

    x = noise(len(batch)).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
