"""The pages of the results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ghn_init.coverage.page import explain, write_pages
from ghn_init.coverage.rows import Results

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "coverage"


def row(model, **fields):
    sizes = {"nodes": 3, "edges": 2, "parameters": 2, "elements": 100, "predicted": [2, 100]}
    times = {"seconds": {"build": 1.0, "trace": 0.5}, "memory_mb": 7, "versions": "torchvision 1, torch 2"}
    return {"model": model, "family": "f", "group": "classification", **sizes, **times, **fields}


def test_counts_and_reasons(tmp_path):
    results = Results(tmp_path, "torchvision")
    results.add(row("good", export="agrees", program="p"))
    results.add(row("wider", program="p"))
    results.add(row("some", predicted=[1, 60], kept={"scales *it*": [1, 40, "scale"]}))
    results.add(row("bad", problems=[2, "node 1 | reaches no output", "other"], export="differs"))
    error = {"stage": "trace", "type": "TraceError", "message": "<no>", "where": "a.py:1"}
    results.add({"model": "worse", "family": "f", "group": "classification", "error": error, "versions": "v"})
    results.add(
        {"model": "absent", "family": "f", "group": "classification", "unavailable": "no x", "versions": "v"}
    )
    refusal = "torch.export failed on M1: RuntimeError: 3 guards on 'u0'"
    results.add(row("closed", export="fails", export_refusal=refusal))
    summary, listing = (path.read_text() for path in write_pages(tmp_path, tmp_path / "docs.md"))
    assert "classification | 6 | 4 | 66.6% | 100.0% | 3 | 2 of 3 agree | 100% |" in summary
    assert "| torchvision | 5 | 1 among 2 | 3 | 1 | 1 | 1 | 3 | 1 of 1 |" in summary
    assert "| RuntimeError: N guards on '…' | 1 | closed |" in summary
    assert "| kept | scales \\*it\\* | 1 | 1 | `scale` of some |" in summary
    assert "| torchvision: worse | FAILED (trace): TraceError: &lt;no> |" in summary
    assert "FAILED: 2 problems of the graph: node 1 \\| reaches no output" in summary
    assert "torchvision: absent | not here: no x" in summary
    assert "| some | f | 3 | 2 | 1 | 100 | 60.0% | 1.5 | 7 | 1 × scales \\*it\\* |" in listing
    assert explain(row("good")) == ""


def test_the_committed_pages_are_those_of_the_committed_results(tmp_path):
    for path in write_pages(COMMITTED, tmp_path / "coverage.md"):
        assert path.read_text() == (ROOT / "docs" / path.relative_to(tmp_path)).read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a suite"),
        (["timmm"], "no suite 'timmm'"),
        (["timm", "--jobs", "0"], "must be positive"),
    ],
)
def test_wrong_use_says_what_is_wrong(words, message):
    done = subprocess.run(
        [sys.executable, "-m", "ghn_init", "coverage", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
