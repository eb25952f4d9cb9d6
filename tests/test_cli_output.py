"""What commands print on a terminal and into a pipe, and the pages that ``--html`` writes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ghn_init.cli import main

MODEL = ("torch.nn:Linear", "--set", "in_features=8", "--set", "out_features=6", "--input", "1,8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    words = ["apply", *MODEL, "--ghn", "bundled", "--out", str(folder), "--html", str(folder / "page.html")]
    assert main(words) == 0
    return folder


def on_a_terminal(folder: Path, **environment: str) -> str:
    """What ``show`` writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    subprocess.run(
        [sys.executable, "-m", "ghn_init", "show", str(folder)],
        stdout=theirs, env={**kept, "TERM": "xterm-256color", "COLUMNS": "100", **environment}, check=True,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # all is read
            break
        if not part:
            break
        text += part
    os.close(ours)
    return text.decode()


COLOURED = re.compile(r"\x1b\[[0-9;]*3[0-9]")


def test_a_terminal_gets_colours_unless_it_says_no(folder: Path):
    pytest.importorskip("rich")
    coloured = on_a_terminal(folder)
    assert COLOURED.search(coloured)
    assert "kept" in coloured
    plain = on_a_terminal(folder, NO_COLOR="1")
    assert not COLOURED.search(plain)
    assert "kept" in plain


def test_a_pipe_gets_plain_text(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("Linear: 0 of 2 parameters")


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_pages_of_a_report_say_what_was_kept_and_why(folder: Path, tmp_path: Path):
    assert main(["show", str(folder), "--html", str(tmp_path / "again.html")]) == 0
    first, again = data_of(folder / "page.html"), data_of(tmp_path / "again.html")
    assert [each["k"] for each in first["params"]] == ["kept", "kept"]
    assert all("classifier of 6 classes" in each["w"] for each in first["params"])
    assert first["measured"]
    assert again["params"] == first["params"]


def test_a_page_of_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["trace", *MODEL, "--html", str(tmp_path / "graph.html")]) == 0
    assert [node["o"] for node in data_of(tmp_path / "graph.html")["nodes"]] == ["input", "linear", "linear"]


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert "see it work on real images" in capsys.readouterr().out
