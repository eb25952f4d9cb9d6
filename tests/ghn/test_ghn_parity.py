"""Predictions and intermediate values of the original code's GHN-1, GHN-2 and GHN-3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity import PARITY, golden_arch_graph, golden_predictions

from ghn_init.ghn import GHN
from ghn_init.graph.batch import GraphBatch

CHECKPOINTS = ("ghn3-tiny", "ghn2-tiny", "ghn1-tiny")
CASES = [
    (checkpoint, path.name.removesuffix(".json.gz"))
    for checkpoint in CHECKPOINTS
    for path in sorted((PARITY / "predictions" / checkpoint).glob("*.json.gz"))
]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def ghns() -> dict[str, GHN]:
    return {name: GHN.from_pretrained(PARITY / "checkpoints" / f"{name}.safetensors") for name in CHECKPOINTS}


@pytest.mark.parametrize(("checkpoint", "network"), CASES)
def test_predictions_are_those_of_the_original(ghns, checkpoint, network):
    rows = golden_predictions(checkpoint, network)["params"]
    # seed 0 also draws the class-token row as the original did after torch.manual_seed(0)
    predicted = ghns[checkpoint].predict(golden_arch_graph(network), head="predict", seed=0)
    assert set(predicted) == {row[0] for row in rows if row[2]}
    for row in rows:
        if not row[2]:
            continue
        name, shape, _, total, norm, weighted, first = row
        assert list(predicted[name].shape) == shape
        values = predicted[name].double().flatten()
        size = values.abs().sum().item()
        waves = torch.cos(0.1 * torch.arange(len(values), dtype=torch.float64))
        assert values.norm().item() == pytest.approx(norm, rel=TOLERANCE), name
        assert values.sum().item() == pytest.approx(total, abs=TOLERANCE * size), name
        assert (values * waves).sum().item() == pytest.approx(weighted, abs=TOLERANCE * size), name
        error = (values[:8] - torch.tensor(first, dtype=torch.float64)).norm().item()
        assert error <= TOLERANCE * np.linalg.norm(first), name


@pytest.mark.parametrize(("checkpoint", "network"), CASES)
def test_decoder_groups_are_those_of_the_original(ghns, checkpoint, network):
    expected = golden_predictions(checkpoint, network)["groups"]
    groups = ghns[checkpoint].groups(golden_arch_graph(network), head="predict")
    assert [[list(key), nodes] for key, nodes in groups] == expected


@pytest.mark.parametrize(("checkpoint", "network"), CASES)
def test_embeddings_are_those_of_the_original_at_each_stage(ghns, checkpoint, network):
    ghn, graph = ghns[checkpoint], golden_arch_graph(network)
    batch = GraphBatch([graph], 50 if ghn.config.virtual_edges else 1)
    stages = np.load(PARITY / "stages" / checkpoint / f"{network}.npz")
    with torch.no_grad():
        first = ghn.embedding(batch)
        encoded = ghn.encoder(first, batch)
    for name, found in (("shape_enc", first), ("gnn", encoded), ("final", ghn.embed(graph))):
        expected = torch.from_numpy(stages[name])
        assert (found - expected).norm() <= TOLERANCE * expected.norm(), name
