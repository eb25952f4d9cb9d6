"""From a torchvision network to the predictions of the original code: every stage in one go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from parity import PARITY, golden_predictions

import ghn_init

TOLERANCE = 1e-5
# With fused attention the original loses the attention nodes; ".softmax" is its graph without that fault.
GOLDEN = {"vit_b_16": "vit_b_16.softmax"}
FAST = ("resnet18", "squeezenet1_1", "vit_b_16", "maxvit_t")
CASES = [
    pytest.param(checkpoint, network, marks=[] if network in FAST else pytest.mark.slow)
    for checkpoint in ("ghn3-tiny", "ghn2-tiny", "ghn1-tiny")
    for network in sorted(
        {p.name.split(".")[0] for p in (PARITY / "predictions" / checkpoint).glob("*.json.gz")}
    )
    if (PARITY / "predictions" / checkpoint / f"{GOLDEN.get(network, network)}.json.gz").is_file()
]


def build(network: str) -> torch.nn.Module:
    options = {"init_weights": False} if network in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        return torchvision.models.get_model(network, **options).eval()


@pytest.mark.parametrize(("checkpoint", "network"), CASES)
def test_predict_on_a_network_gives_the_values_of_the_original_code(checkpoint, network):
    file = next((PARITY / "checkpoints").glob(f"{checkpoint}.*.pt"))
    ghn = ghn_init.GHN.from_pretrained(file)
    predicted = ghn_init.predict(build(network), ghn)
    rows = golden_predictions(checkpoint, GOLDEN.get(network, network))["params"]
    assert set(predicted) == {row[0] for row in rows if row[2]}
    for name, shape, _, _, norm, weighted, first in (row for row in rows if row[2]):
        values = predicted[name].double().flatten()
        waves = torch.cos(0.1 * torch.arange(len(values), dtype=torch.float64))
        assert list(predicted[name].shape) == shape
        assert values.norm().item() == pytest.approx(norm, rel=TOLERANCE), name
        size = values.abs().sum().item()
        assert (values * waves).sum().item() == pytest.approx(weighted, abs=TOLERANCE * size), name
        error = (values[:8] - torch.tensor(first, dtype=torch.float64)).norm().item()
        assert error <= TOLERANCE * np.linalg.norm(first), name
