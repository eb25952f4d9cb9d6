"""The demonstration on the bundled images."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghn_init.demo import DEFAULT_LABEL, GHN_LABEL, PICTURE, DemoResult, run
from ghn_init.errors import DataError


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    out = tmp_path_factory.mktemp("demo")
    return run("resnet10t", out=out, steps=10, data_root="bundled", train_images=512, test_images=300)


def test_predicted_weights_are_far_ahead_before_training(result: DemoResult):
    start = {name: curve.accuracies[0] for name, curve in result.curves.items()}
    assert list(start) == [GHN_LABEL, DEFAULT_LABEL]
    assert start[GHN_LABEL] > start[DEFAULT_LABEL] + 0.2
    assert start[DEFAULT_LABEL] < 0.25


def test_both_models_are_measured_at_the_same_steps(result: DemoResult):
    assert [curve.steps for curve in result.curves.values()] == [[0, 5, 10]] * 2
    assert (result.train_images, result.test_images) == (512, 300)


def test_the_table_has_every_row(result: DemoResult):
    lines = str(result).splitlines()
    assert lines[0].startswith("resnet10t on Fashion-MNIST")
    assert any(line.startswith(GHN_LABEL) and line.count("%") == 2 for line in lines)
    assert any(line.startswith(DEFAULT_LABEL) and line.count("%") == 2 for line in lines)
    assert "bundled subset" in str(result)


def test_the_picture_is_saved(result: DemoResult):
    assert result.picture is not None
    assert result.picture.name == PICTURE
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    assert result.picture.stat().st_size > 10_000


def test_missing_images_are_told(tmp_path: Path):
    with pytest.raises(DataError, match="no Fashion-MNIST files"):
        run(data_root=tmp_path)
