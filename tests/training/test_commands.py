"""``python -m ghn_init.training`` and the presets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ghn_init import GHN, CheckpointError, ConfigError
from ghn_init.training.__main__ import main
from ghn_init.training.config import TrainConfig
from ghn_init.training.presets import load_preset, preset_names
from ghn_init.training.report import training_section
from ghn_init.training.trainer import LOG, load_run

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
    assert config == TrainConfig.from_dict(TINY)
    assert ghn.config == again.config
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
