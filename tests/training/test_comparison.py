"""Initialisations compared along training."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import ConfigError, DataError
from ghn_init.default import resolve_ghn
from ghn_init.training.comparison import (
    Comparison,
    best_lr,
    choose_and_report,
    compare,
    development,
    read_rows,
)
from ghn_init.training.data import fashion_mnist
from ghn_init.training.datasets import load_images
from ghn_init.training.inits import initialise, parse_blend
from ghn_init.training.spaces import held_out
from ghn_init.training.summary import Interval, plot, seed_noise, steps_to, t_quantile, table

EXAMPLE = torch.zeros(2, 3, 32, 32)


@pytest.fixture(scope="module")
def ghn():
    return resolve_ghn("bundled")


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("train", "bundled").head(400), fashion_mnist("test", "bundled").head(100)


def vit() -> nn.Module:
    torch.manual_seed(0)
    return next(each for each in held_out("vit", 20) if each.args["depth"] == 1).build()


def test_kaiming_has_the_variance_and_the_seed_that_it_says():
    one, same, other = vit(), vit(), vit()
    initialise(one, "kaiming", None, EXAMPLE, 1)
    initialise(same, "kaiming", None, EXAMPLE, 1)
    initialise(other, "kaiming", None, EXAMPLE, 2)
    weight = one.get_parameter("blocks.0.mlp.fc1.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.1)
    assert not one.get_parameter("blocks.0.mlp.fc1.bias").any()
    assert torch.equal(weight, same.get_parameter("blocks.0.mlp.fc1.weight"))
    assert not torch.equal(weight, other.get_parameter("blocks.0.mlp.fc1.weight"))


def test_orthogonal_has_orthogonal_rows_of_the_size_of_kaiming():
    one, other = vit(), vit()
    initialise(one, "orthogonal", None, EXAMPLE, 1)
    initialise(other, "kaiming", None, EXAMPLE, 1)
    name = "blocks.0.mlp.fc2.weight"
    weight, drawn = (each.get_parameter(name).detach() for each in (one, other))
    gram = weight @ weight.T
    torch.testing.assert_close(gram, torch.eye(len(gram)) * gram[0, 0], rtol=1e-4, atol=1e-5)
    assert float(weight.norm()) == pytest.approx(float(drawn.norm()), rel=0.05)
    initialise(nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last), "orthogonal", None, EXAMPLE)


def test_mimetic_attention_starts_near_the_identity_and_the_rest_as_it_was():
    plain, changed = vit(), vit()
    before = copy.deepcopy(plain.state_dict())
    initialise(changed, "mimetic", None, EXAMPLE, 0)
    moved = {name for name, value in changed.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight"}
    joint = changed.get_parameter("blocks.0.attn.qkv.weight").detach()
    width = joint.shape[1]
    queries, keys, values = joint.split(width)
    output = changed.get_parameter("blocks.0.attn.proj.weight").detach()
    assert float((queries.T @ keys).diagonal().mean()) > 0.2
    assert float((output @ values).diagonal().mean()) == pytest.approx(-0.4, abs=0.1)


def test_a_ghn_writes_its_prediction_or_a_blend(ghn):
    predicted = ghn_init.predict(vit(), ghn, example_inputs=EXAMPLE)
    model = vit()
    initialise(model, "ghn", ghn, EXAMPLE)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in predicted.items())
    assert parse_blend("share=0.5,base=kaiming,orthogonal=true,vectors=keep").orthogonal
    for name, message in (
        ("xavier", "unknown init"),
        ("ghn:size=3", "no field 'size'"),
        ("ghn:share=x", "is a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            initialise(vit(), name, ghn, EXAMPLE)
    with pytest.raises(ConfigError, match="needs a GHN"):
        initialise(vit(), "ghn", None, EXAMPLE)


def test_rates_are_chosen_on_other_networks_and_runs_are_not_repeated(ghn, images, tmp_path: Path):
    data, test = images
    comparison = Comparison(("default", "ghn"), (0.001, 0.05), budgets=(2, 3), marks=(0, 1), batch_size=16)
    path = tmp_path / "rows.jsonl"
    chosen_on = development("cells", [20])
    reported_on = {"cells/0": held_out("cells", 1)[0]}
    rows = choose_and_report(comparison, chosen_on, reported_on, ghn, data, test, path)
    assert len(rows) == 4
    written = read_rows(path)
    assert len(written) == 8 + 4
    for row in rows:
        trials = [each for each in written if each["net"] in chosen_on]
        assert row["lr"] == best_lr(trials, row["init"], row["steps"])
        assert set(row["accuracies"]) == {"0", "1", str(row["steps"])}
    again = choose_and_report(comparison, chosen_on, reported_on, ghn, data, test, path)
    assert again == rows
    assert read_rows(path) == written
    with pytest.raises(ConfigError, match="cannot be reported on"):
        choose_and_report(comparison, chosen_on, chosen_on, ghn, data, test)
    with pytest.raises(DataError, match="different classes"):
        compare(comparison, reported_on, ghn, data, load_images("digits", "test"))
    with pytest.raises(ConfigError, match="at least one of inits"):
        Comparison((), (0.1,))
    text = table(rows, ("default",))
    assert "| 3 | `ghn` |" in text
    assert "| reference |" in text
    assert plot(rows, tmp_path / "figure.png", ("default",)).read_bytes().startswith(b"\x89PNG")


def row(net: str, init: str, accuracy: float, seed: int = 0, halfway: float = 0.2) -> dict:
    accuracies = {"50": halfway, "100": accuracy}
    return {"net": net, "init": init, "lr": 0.1, "steps": 100, "seed": seed, "accuracies": accuracies}


def test_differences_are_paired_and_their_intervals_are_students():
    rows = [row(f"n{i}", "kaiming", 0.5 + i / 10, halfway=0.3) for i in range(4)]
    rows += [row(f"n{i}", "ghn", 0.6 + i / 10 + (0.02 if i % 2 else -0.02), halfway=0.99) for i in range(4)]
    text = table(rows)
    half = 3.182 * (0.02 / 3**0.5 * 4**0.5) / 4**0.5
    assert f"| +10.0 ± {100 * half:.1f} | 100 % | 0.50 |" in text
    assert t_quantile(30) == pytest.approx(2.0423, abs=1e-3)
    assert t_quantile(5) == pytest.approx(2.5706, abs=5e-3)
    assert math.isinf(Interval.of([0.1]).half)
    assert steps_to(rows[0], 0.9) is None
    assert math.isnan(seed_noise(rows, "kaiming", 100))
    twice = [row("n", "kaiming", 0.5, 0), row("n", "kaiming", 0.6, 1)]
    assert seed_noise(twice, "kaiming", 100) == pytest.approx(0.05 * 2**0.5)
    assert json.loads(json.dumps(rows)) == rows
