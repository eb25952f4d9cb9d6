"""The page on parameters says what becomes of each kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="the page has a kind that this torch lacks")
def test_the_page_is_current():
    command = [sys.executable, str(ROOT / "benchmarks" / "parameters_table.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"run python benchmarks/parameters_table.py\n{done.stderr[-2000:]}"
