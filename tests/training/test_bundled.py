"""The GHN that comes with the package, on networks that it never saw and real test images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ghn_init
from ghn_init.assets import BUNDLED_GHN
from ghn_init.default import resolve_ghn
from ghn_init.training.data import fashion_mnist
from ghn_init.training.evaluate import zero_shot
from ghn_init.training.presets import load_preset
from ghn_init.training.real import SEEN_FAMILIES, build
from ghn_init.training.spaces import held_out


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("test", "bundled").head(320)


@pytest.mark.parametrize(
    ("family", "number", "least"),
    [("resnet", 5, 0.65), ("regnet", 4, 0.55), ("mobile", 4, 0.4), ("cells", 8, 0.2)],
)
def test_held_out_networks_are_well_above_chance_before_training(family, number, least, images):
    chosen = {str(i): each for i, each in enumerate(held_out(family, number))}
    result = zero_shot(resolve_ghn("bundled"), chosen, images)
    assert not result.failed
    assert result.mean > least


def test_a_full_width_timm_model_is_well_above_chance_before_training(images):
    models = build({"resnet18": SEEN_FAMILIES["resnet18"]})
    assert zero_shot(resolve_ghn("bundled"), models, images).accuracies["resnet18"] > 0.6


def test_the_bundled_files_are_small_and_were_made_by_the_preset():
    assert (BUNDLED_GHN / "model.safetensors").stat().st_size < 15_000_000
    config = json.loads((BUNDLED_GHN / "config.json").read_text())
    preset = load_preset("bundled").ghn
    assert {name: config[name] for name in preset} == dict(preset)
    assert config["num_classes"] == 10
    card = (BUNDLED_GHN / "README.md").read_text()
    assert "ghn-init train bundled" in card
    assert "## Evaluation" in card
    training = card.split("## Training\n")[1].split("```")[0]
    assert "images of fashion-mnist" in training
    assert all(f" {space} " in training for space in load_preset("bundled").families)
    assert "license: apache-2.0" in card


def test_the_code_in_the_card_of_the_bundled_ghn_runs_as_it_stands(tmp_path):
    pytest.importorskip("timm")
    code = (BUNDLED_GHN / "README.md").read_text().split("```python\n")[1].split("```")[0]
    path = str(Path(ghn_init.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "predicted by" in done.stdout
