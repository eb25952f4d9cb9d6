"""Each example runs as a user would run it, on little data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
RUNS = {
    "timm_finetune.py": (["--model", "resnet10t", "--steps", "3", "--images", "250"], "after 3 steps"),
    "transformers_from_config.py": (["--out", "bert"], "same weights"),
    "save_and_load.py": (["--out", "ghn"], "predictions: 0.0"),
    "new_head.py": ([], "bit-equal to the checkpoint"),
    "train_ghn.py": (["--steps", "3", "--networks", "1", "--images", "64", "--out", "ghn"], "written: ghn"),
    "share.py": ([], "same predictions"),
    "rank_models.py": (["--models", "resnet10t", "--images", "64"], "first: "),
    "sharded.py": (["--width", "32"], "values are here"),
    "custom_rule.py": ([], "predicted as conv"),
}
UNDER = {"share.py": [sys.executable, str(ROOT / "tests" / "hub" / "loopback.py"), "--"]}
"""What an example runs under: a Hub of this machine."""


def test_every_example_is_run_and_short():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


@pytest.mark.parametrize("name", sorted(RUNS))
def test_example(name, tmp_path):
    arguments, expected = RUNS[name]
    offline = {} if name in UNDER else {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*UNDER.get(name, []), sys.executable, str(EXAMPLES / name), *arguments],
        cwd=tmp_path,
        env={**os.environ, **offline, "GHN_INIT_DATA": "bundled"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert expected in done.stdout
