"""The figures in docs/trust.md and docs/large_models.md are those of benchmarks/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "trust_page.py"


def test_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run python benchmarks/trust_page.py\n{done.stderr[-2000:]}"
