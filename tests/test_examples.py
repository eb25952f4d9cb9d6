"""Each example runs as a user would run it, on little data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RUNS = {
    "timm_finetune.py": (["--model", "resnet10t", "--steps", "3", "--images", "250"], "after 3 steps"),
    "transformers_from_config.py": (["--out", "bert"], "same weights"),
    "save_and_load.py": (["--out", "ghn"], "predictions: 0.0"),
    "sharded.py": (["--width", "32"], "values are here"),
}


def test_every_example_is_run_and_short():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


@pytest.mark.parametrize("name", sorted(RUNS))
def test_example(name, tmp_path):
    arguments, expected = RUNS[name]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GHN_INIT_DATA": "bundled"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert expected in done.stdout
