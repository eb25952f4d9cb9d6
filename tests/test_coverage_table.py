"""The command that generates the coverage page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ghn_init

ROOT = Path(__file__).resolve().parents[1]


def run(folder, *words):
    """Run the command with its results and its page in ``folder``."""
    files = ["--results", str(folder / "rows.jsonl"), "--page", str(folder / "page.md")]
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "coverage_table.py"), *files, *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip


def test_rows_are_measured_once_and_written_as_a_page(tmp_path):
    config = ghn_init.GHNConfig(hid=16, layers=1, heads=2, num_classes=10, max_shape=(16, 16, 3, 3))
    ghn_init.GHN(config).save_pretrained(tmp_path / "ghn")
    run(tmp_path, "--suite", "torchvision", "--only", "squeezenet1_1", "--ghn", str(tmp_path / "ghn"))
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert row["predicted"] + len(row["kept"]) + len(row["skipped"]) == row["parameters"] == 52
    page = (tmp_path / "page.md").read_text()
    assert f"| squeezenet1_1 | {row['nodes']} | 52 |" in page

    row["cpu_seconds"] = 12345.0
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    run(tmp_path, "--suite", "torchvision", "--only", "squeezenet1_1", "--ghn", str(tmp_path / "ghn"))
    assert json.loads((tmp_path / "rows.jsonl").read_text())["cpu_seconds"] == 12345.0


def test_the_page_is_written_from_the_committed_results(tmp_path):
    (tmp_path / "rows.jsonl").write_text((ROOT / "benchmarks" / "results" / "coverage.jsonl").read_text())
    run(tmp_path, "--table")
    assert (tmp_path / "page.md").read_text() == (ROOT / "docs" / "coverage.md").read_text()
