"""``ghn-init train``, ``evaluate`` and ``card``, and the presets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ghn_init import GHN, CheckpointError, ConfigError
from ghn_init.cli import main
from ghn_init.training.config import TrainConfig
from ghn_init.training.log import LOG
from ghn_init.training.presets import load_preset, preset_names
from ghn_init.training.report import training_section
from ghn_init.training.trainer import load_run

TINY = {
    "ghn": {"hid": 16, "layers": 1, "max_shape": [16, 16, 3, 3], "encoder": "gated_gnn"},
    "families": {"resnet": 1.0}, "pool": 2, "pool_start": 1, "batch_size": 8, "steps": 10, "inner_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(json.dumps(TINY))
    assert main(["train", str(folder / "config.json"), str(folder / "run"), "--data", "bundled"]) == 0
    return folder / "run"


def test_training_leaves_a_ghn_that_loads(run: Path):
    ghn = GHN.from_pretrained(run / "ghn")
    config, again = load_run(run)
    assert config == TrainConfig.from_dict({**TINY, "data": "bundled"})
    assert ghn.config.response_floor != again.config.response_floor  # measured at the end
    assert replace(ghn.config, response_floor=again.config.response_floor) == again.config
    pairs = zip(ghn.parameters(), again.parameters(), strict=True)
    assert all(bool((one == other).all()) for one, other in pairs)


def test_a_finished_run_is_made_longer_by_the_same_command(run: Path):
    before = len((run / LOG).read_text().splitlines())
    main(["train", str(run.parent / "config.json"), str(run), "--data", "bundled", "--steps", "20"])
    entries = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in entries[before:]] == [20]


def test_the_card_says_how_the_ghn_was_trained(run: Path):
    config, _ = load_run(run)
    text = training_section(config, "ghn-init train tiny run", run / LOG)
    assert f"the training images of {config.data}, " in text
    assert all(f"{name} " in text.split("```")[0] for name in config.families)
    assert "`ghn-init train tiny run` (seed 0)" in text
    assert '"inner_steps": 1' in text
    assert text.splitlines()[-1].startswith("| ")
    with pytest.raises(CheckpointError, match="no log"):
        training_section(config, "", run / "missing.jsonl")


@pytest.mark.slow
def test_a_ghn_is_saved_with_its_evaluation(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = ["--data", "bundled", "--images", "32", "--nets", "2"]
    main(["card", str(run), str(tmp_path / "ghn"), "--command", "ghn-init train tiny run", *sizes])
    card = (tmp_path / "ghn" / "README.md").read_text()
    assert "## Training" in card
    assert "| cells | 2 |" in card
    assert "| `resnet18` |" in card
    main(["evaluate", str(tmp_path / "ghn"), *sizes])
    assert capsys.readouterr().out.strip() in card


def test_presets_are_valid_and_others_are_refused(tmp_path: Path):
    assert {"bundled", "quick"} <= set(preset_names())
    assert all(isinstance(load_preset(name), TrainConfig) for name in preset_names())
    with pytest.raises(ConfigError, match="neither a preset"):
        load_preset("enormous")
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_preset(str(path))
    path.write_text("[]")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        load_preset(str(path))
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_run(tmp_path)


def test_a_run_refuses_other_images_than_its_own(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(run.parent / "config.json"), str(run), "--data", "fractals"]) == 1
    assert "data" in capsys.readouterr().err


def test_a_ghn_is_trained_on_images_made_by_a_formula(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "steps": 2}))
    words = ["train", str(tmp_path / "config.json"), str(tmp_path / "run"), "--data", "fractals:7"]
    assert main(words) == 0
    assert GHN.from_pretrained(tmp_path / "run" / "ghn").config.num_classes == 7


@pytest.mark.slow
def test_a_launch_of_two_processes_trains_one_ghn_and_logs_to_tensorboard(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "meta_batch": 2, "pool_start": 2}))
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "ghn_init", "train"]
    for folder, first in (("two", ["-m", *launch]), ("one", ["-m", "ghn_init", "train"])):
        words = [str(tmp_path / "config.json"), str(tmp_path / folder), "--data", "bundled"]
        track = ["--track", "tensorboard"] if folder == "two" else []
        command = [sys.executable, *first, *words, *track]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    two, one = (GHN.from_pretrained(tmp_path / folder / "ghn") for folder in ("two", "one"))
    for mine, other in zip(two.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert list((tmp_path / "two").rglob("events.out.tfevents*"))


def test_an_unknown_tracker_is_refused_before_training(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "quick", str(run.parent / "other"), "--track", "papyrus"]) == 1
    assert "tracker 'papyrus' is unknown" in capsys.readouterr().err
    assert not (run.parent / "other").exists()


def test_initialisations_are_compared_along_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "found"
    words = ["evaluate", "bundled", "--inits", "kaiming", "ghn", "--lrs", "0.01", "0.1", "--budgets", "2"]
    words += ["--families", "mixer", "--nets", "4", "--choose-on", "1", "--data", "bundled", "--images", "50"]
    words += ["--train-images", "320", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text().strip() == printed.strip()
    assert "| `kaiming` |" in printed
    assert "reference" in printed
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {row["net"] for row in rows} == {"mixer/held-out 0", "mixer/development 0"}
    assert main(words) == 0
    assert len((out / "rows.jsonl").read_text().splitlines()) == len(rows)
    assert main(["evaluate", "bundled", "--inits", "ghn", "--out", str(out)]) == 1
    assert "nothing to compare ghn with: add one of default, kaiming" in capsys.readouterr().err
    few = ["--inits", "ghn", "kaiming", "--families", "none"]
    assert main(["evaluate", "bundled", *few, "--out", str(out)]) == 1
    assert "unknown families ['none']" in capsys.readouterr().err
