"""Reports and rankings in a notebook that is really run: its cells, and what a browser shows of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser import browser

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = [
    """
import torch
from torch import nn
import ghn_init
from ghn_init.training.data import fashion_mnist

def net():
    first = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

data = fashion_mnist('test', 'bundled').head(64)
""",
    "report = ghn_init.apply(net(), 'bundled', example_inputs=torch.zeros(1, 3, 32, 32)); report",
    "ghn_init.rank({'first': net, 'second': net}, data, 'bundled', images=64)",
    "print(report)",
]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    folder = str(tmp_path_factory.mktemp("notebook"))
    env = {**os.environ, "IPYTHONDIR": folder, "HF_HUB_OFFLINE": "1"}
    client = nbclient.NotebookClient(
        made, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute(env=env)
    return made


def shown(cell) -> str:
    """The HTML of a cell's value."""
    (output,) = [each for each in cell.outputs if each.output_type == "execute_result"]
    return output.data["text/html"]


def test_no_cell_prints_anything_unasked(notebook):
    for cell in notebook.cells[:3]:
        assert [output for output in cell.outputs if output.output_type == "stream"] == []


def test_values_have_a_picture_and_a_text(notebook):
    report, ranking = shown(notebook.cells[1]), shown(notebook.cells[2])
    assert "6 of 6 parameters" in report
    assert "first" in ranking
    assert "second" in ranking
    assert "predicted" in notebook.cells[3].outputs[0].text


def test_a_browser_shows_both_without_complaint(notebook, tmp_path: Path):
    cells = "".join(f"<div class=cell>{shown(cell)}</div>" for cell in notebook.cells[1:3])
    path = tmp_path / "cells.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{cells}", encoding="utf-8")
    with browser() as page:
        page.driver.get(path.as_uri())
        heights = page.driver.execute_script(
            "return [...document.querySelectorAll('.cell')].map(e => e.getBoundingClientRect().height)"
        )
        assert all(20 < height < 700 for height in heights)
        assert page.complaints() == []
        assert [url for url in page.requests() if not url.startswith(("file:", "data:"))] == []
